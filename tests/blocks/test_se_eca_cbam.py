"""`se`, `eca` and `cbam` against timm's layers, and what is particular to each."""

from __future__ import annotations

import pytest
import timm.layers.cbam
import torch
from formulas import randomised

from attnzoo.blocks import CBAM, EfficientChannelAttention, SqueezeExcitation


@pytest.mark.parametrize("channels", [3, 64, 128, 200])
@pytest.mark.parametrize("name", ["se", "eca", "cbam"])
def test_equal_to_timm_on_copied_weights(name: str, channels: int) -> None:
    hidden = max(channels // 16, 8)
    if name == "se":
        block = SqueezeExcitation(channels)
        twin = timm.layers.SEModule(channels, rd_channels=hidden)
        pairs = [(block.gate.fc1, twin.fc1), (block.gate.fc2, twin.fc2)]
    elif name == "eca":
        block, twin = EfficientChannelAttention(channels), timm.layers.EcaModule(channels)
        pairs = [(block.gate.conv, twin.conv)]
    else:
        block = CBAM(channels)
        twin = timm.layers.cbam.CbamModule(channels, rd_ratio=hidden / channels)
        pairs = [(block.channel_gate.mlp[0], twin.channel.fc1)]
        pairs += [(block.channel_gate.mlp[2], twin.channel.fc2)]
        pairs += [(block.spatial_gate.conv, twin.spatial.conv.conv)]
        pairs += [(block.spatial_gate.norm, twin.spatial.conv.bn)]
    for own, other in pairs:
        own.load_state_dict(other.state_dict())
    for training in (True, False):  # the batch statistics of the first pass serve the second
        x = torch.randn(3, channels, 9, 6)
        expected = twin.train(training)(x)
        torch.testing.assert_close(block.train(training)(x), expected, rtol=1e-6, atol=1e-6)


def test_timm_and_the_paper_agree_on_the_width_where_the_docstring_says() -> None:
    for channels in (8, 64, 128, 256, 512):
        own, other = SqueezeExcitation(channels), timm.layers.SEModule(channels)
        assert own.gate.fc1.weight.shape == other.fc1.weight.shape


def test_eca_kernel_follows_the_channels() -> None:
    sizes = {1: 3, 7: 3, 32: 3, 64: 3, 127: 3, 128: 5, 512: 5, 1024: 5, 2048: 7}
    built = {c: EfficientChannelAttention(c).gate.conv.kernel_size[0] for c in sizes}
    assert built == sizes
    assert EfficientChannelAttention(64, kernel_size=9).gate.conv.kernel_size == (9,)


def test_cbam_normalises_a_single_value_with_the_running_statistics() -> None:
    block = randomised("cbam", 8).float()
    block.spatial_gate.norm.running_var.fill_(4.0)
    state = {key: value.clone() for key, value in block.state_dict().items()}
    x = torch.randn(1, 8, 1, 1)
    assert torch.equal(block.train()(x), block.eval()(x))
    assert all(torch.equal(block.state_dict()[key], value) for key, value in state.items())
