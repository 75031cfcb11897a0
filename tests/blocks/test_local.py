"""`local` and the two blocks made after it: formulas, keys, and how they start."""

from __future__ import annotations

import math

import pytest
import torch
from formulas import randomised
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks import LocalAttention


def test_local_is_the_formula_of_the_source_and_has_its_keys() -> None:
    block = LocalAttention(16, reduction_ratio=8)
    channel, spatial = "channel_attention", "spatial_attention"
    layers = {f"{channel}.1": (2, 16), f"{channel}.3": (16, 2)}
    layers |= {f"{spatial}.0": (2, 16), f"{spatial}.2": (1, 2)}
    state = block.state_dict()
    expected = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert list(state) == expected
    assert all(state[f"{layer}.weight"].shape == (*s, 1, 1) for layer, s in layers.items())

    w = {key: torch.randn_like(value) for key, value in state.items()}
    block.load_state_dict(w)
    x = torch.randn(2, 16, 5, 4)

    def conv(value: Tensor, layer: str) -> Tensor:
        weight, bias = w[f"{layer}.weight"][:, :, 0, 0], w[f"{layer}.bias"]
        return torch.einsum("oc,nchw->nohw", weight, value) + bias[:, None, None]

    mean = x.sum((2, 3), keepdim=True) / 20
    gate = torch.sigmoid(conv(conv(mean, f"{channel}.1").clamp(min=0), f"{channel}.3"))
    place = torch.sigmoid(conv(conv(x, f"{spatial}.0").clamp(min=0), f"{spatial}.2"))
    torch.testing.assert_close(block(x), x * (gate * place), rtol=1e-6, atol=1e-6)


def test_local_starts_near_uniform() -> None:
    block = LocalAttention(256)
    x = torch.randn(4, 256, 8, 8).relu()
    for branch in (block.channel_attention, block.spatial_attention):
        convolutions = [m for m in branch if isinstance(m, nn.Conv2d)]
        assert all(not m.bias.any() for m in convolutions)
        kaiming = [math.sqrt(2 / m.in_channels) for m in convolutions]
        assert convolutions[0].weight.std().item() == pytest.approx(kaiming[0], rel=0.1)
        assert convolutions[1].weight.std().item() < 0.15 * kaiming[1]
        assert (branch(x) - 0.5).abs().max() < 0.2


@torch.no_grad()
def test_local_self_with_a_window_of_one_has_the_gate_of_local() -> None:
    block = randomised("local-self", 16, kernel_size=1)
    twin = attnzoo.create_block("local", 16).double()
    own, other = block.spatial_attention, twin.spatial_attention
    other[0].load_state_dict(own.reduce.state_dict())
    other[2].load_state_dict(own.value.state_dict())
    x = torch.randn(2, 16, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(own(x), other(x), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_local_dynamic_with_open_gates_is_local() -> None:
    block = attnzoo.create_block("local-dynamic", 16, reduction=8).double()
    twin = attnzoo.create_block("local", 16, reduction=8).double()
    for own, first, second in (
        (block.channel_attention.units, twin.channel_attention[1], twin.channel_attention[3]),
        (block.spatial_attention.units, twin.spatial_attention[0], twin.spatial_attention[2]),
    ):
        first.load_state_dict(own.reduce.state_dict())
        second.load_state_dict(own.expand.state_dict())
    x = torch.randn(2, 16, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), twin(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["local-self", "local-dynamic"])
def test_gates_start_near_one_half(name: str) -> None:
    block = attnzoo.create_block(name, 128)
    x = torch.randn(4, 128, 8, 8).relu()
    for gate in (block.channel_attention, block.spatial_attention):
        assert (gate(x) - 0.5).abs().max() < 0.2
