"""Blocks against timm's layers with the same weights."""

from __future__ import annotations

import pytest
import timm.layers
import timm.layers.bottleneck_attn
import timm.layers.cbam
import timm.layers.coord_attn
import timm.layers.grn
import torch
from formulas import randomised
from torch import nn

import attnzoo

both_modes = pytest.mark.parametrize("training", [True, False])


def ge_minus(extent: int | str) -> tuple[nn.Module, nn.Module]:
    block = attnzoo.create_block("ge", 24, variant="minus", extent=extent)
    twin = timm.layers.GatherExcite(
        24, extra_params=False, use_mlp=False, extent=0 if extent == "global" else extent
    )
    return block, twin


def coord_without_a_bias_before_the_norm() -> nn.Module:
    twin = timm.layers.coord_attn.CoordAttn(24, rd_channels=8, bias=True)
    nn.init.zeros_(twin.conv1.bias)
    return twin


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
COORD = {
    "gate.reduce.conv.weight": "conv1.weight",
    **{f"gate.reduce.norm.{p}": f"bn1.{p}" for p in NORM},
    **{f"gate.row_expand.{p}": f"conv_h.{p}" for p in ("weight", "bias")},
    **{f"gate.column_expand.{p}": f"conv_w.{p}" for p in ("weight", "bias")},
}
SPATIAL = {
    "gate.conv.weight": "conv.conv.weight",
    **{f"gate.norm.{p}": f"conv.bn.{p}" for p in NORM},
}
TWINS = {
    "ese": (
        lambda: timm.layers.EffectiveSEModule(24),
        {"gate.fc.weight": "fc.weight", "gate.fc.bias": "fc.bias"},
    ),
    "grn": (
        lambda: timm.layers.grn.GlobalResponseNorm(24, channels_last=False),
        {"weight": "weight", "bias": "bias"},
    ),
    "spatial": (lambda: timm.layers.cbam.SpatialAttn(7), SPATIAL),
    "coord": (coord_without_a_bias_before_the_norm, COORD),
}


@pytest.mark.parametrize("name", TWINS)
@torch.no_grad()
def test_equal_to_timm_on_copied_weights(name: str) -> None:
    build, keys = TWINS[name]
    block, twin = randomised(name, 24).float(), build()
    state = block.state_dict()
    assert set(state) == set(keys)
    twin.load_state_dict({keys[key]: state[key] for key in keys}, strict=name != "coord")
    for training in (True, False):
        x = torch.randn(3, 24, 9, 6)
        expected = twin.train(training)(x)
        torch.testing.assert_close(block.train(training)(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("extent", [2, 4, 8, "global"])
def test_gather_excite_without_parameters_is_timms(extent: int | str) -> None:
    block, twin = ge_minus(extent)
    for size in ((9, 6), (16, 16), (1, 7)):
        x = torch.randn(2, 24, *size)
        torch.testing.assert_close(block(x), twin(x), rtol=1e-6, atol=1e-6)


@both_modes
@pytest.mark.parametrize("reduction", [3, 6])
@torch.no_grad()
def test_gc_is_timms_global_context_fused_by_addition(reduction: int, training: bool) -> None:
    block = randomised("gc", 24, reduction=reduction).train(training)
    twin = timm.layers.GlobalContext(
        24, fuse_add=True, fuse_scale=False, rd_channels=24 // reduction
    ).double()
    nn.init.normal_(twin.conv_attn.bias)  # the softmax cancels it
    w = block.state_dict()
    twin.conv_attn.weight.copy_(w["attention.conv.weight"])
    for layer in ("fc1", "norm", "fc2"):
        own, other = block.transform.get_submodule(layer), twin.mlp_add.get_submodule(layer)
        other.weight.copy_(own.weight.view_as(other.weight))
        other.bias.copy_(own.bias)
    twin.mlp_add.norm.eps = block.transform.norm.eps  # 1e-6 in timm, PyTorch's 1e-5 here
    x = torch.randn(2, 24, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), twin.train(training)(x), rtol=1e-9, atol=1e-9)


@both_modes
@torch.no_grad()
def test_nonlocal_is_timms_where_the_width_is_that_of_the_map(training: bool) -> None:
    """timm divides by √C, the paper's authors by √h; biases that timm adds are cancelled."""
    block = randomised("nonlocal", 24, reduction=1).train(training)
    twin = timm.layers.NonLocalAttn(24, rd_channels=24).double()
    pairs = {"theta": "t", "phi": "p", "g": "g", "z": "z", "norm": "norm"}
    for own, other in pairs.items():
        twin.get_submodule(other).load_state_dict(
            block.get_submodule(own).state_dict(), strict=False
        )
    nn.init.normal_(twin.p.bias)
    if training:  # then the BatchNorm takes out what these add
        nn.init.normal_(twin.g.bias)
        nn.init.normal_(twin.z.bias)
    x = torch.randn(2, 24, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), twin.train(training)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 6])
@torch.no_grad()
def test_mhsa_is_timms_bottleneck_attention_plus_x(size: int) -> None:
    span = max(size - 1, 1)
    block = randomised("mhsa", 32, span=span)
    twin = timm.layers.bottleneck_attn.BottleneckAttn(32, feat_size=(size, size)).double()
    twin.qkv.load_state_dict(block.qkv.state_dict())
    within = slice(span - (size - 1), span + size)
    twin.pos_embed.height_rel.copy_(block.height.table[within])
    twin.pos_embed.width_rel.copy_(block.width.table[within])
    x = torch.randn(2, 32, size, size, dtype=torch.float64)
    torch.testing.assert_close(block(x), x + twin(x), rtol=1e-9, atol=1e-9)
