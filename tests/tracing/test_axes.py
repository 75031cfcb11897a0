"""Which axis of a map holds its channels, told from the operations."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, example, outputs, same_bits

import attnzoo
from attnzoo.hosts.attention import Attention
from attnzoo.tracing.axes import derive_axes
from attnzoo.tracing.probe import probe

C = 8


class Run(nn.Module):
    """Applies a function; its result is the model's."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(C, C, 3, padding=1)
        self.linear, self.norm = nn.Linear(C, C), nn.LayerNorm(C)
        self.attention = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.conv(x))


#: A map whose sides all equal its channels: the shape tells nothing.
CASES: dict[str, tuple[Any, str]] = {
    "itself": (lambda m, x: x, "NCHW"),
    "activation": (lambda m, x: F.gelu(x) * 2, "NCHW"),
    "permute": (lambda m, x: x.permute(0, 2, 3, 1), "NHWC"),
    "negative permute": (lambda m, x: x.permute(0, -2, -1, -3), "NHWC"),
    "there and back": (lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), "NCHW"),
    "transposes": (lambda m, x: x.transpose(1, 2).transpose(2, 3), "NHWC"),
    "width first": (lambda m, x: x.transpose(2, 3), "NCWH"),
    "layer norm": (lambda m, x: m.norm(x.permute(0, 2, 3, 1)), "NHWC"),
    "linear": (lambda m, x: m.linear(x.permute(0, 2, 3, 1)), "NHWC"),
    "mlp": (lambda m, x: m.linear(F.gelu(m.linear(x.permute(0, 2, 3, 1)))), "NHWC"),
    "and convolution": (lambda m, x: m.conv(m.linear(x.permute(0, 2, 3, 1))), "NCHW"),
    "cat": (lambda m, x: torch.cat([x, x], 1)[:, :C], "NCHW"),
    "pool": (lambda m, x: F.max_pool2d(x, 2, 1, 1)[:, :, :C, :C], "NCHW"),
    "resize": (lambda m, x: F.interpolate(x, scale_factor=2), "NCHW"),
    "shuffle": (
        lambda m, x: x.view(-1, 2, C // 2, C, C).transpose(1, 2).reshape(-1, C, C, C),
        "NCHW",
    ),
    "flattened": (lambda m, x: x.flatten(2), ""),
    "gated": (lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid(), "NCHW"),
    "gate first": (lambda m, x: x.mean((2, 3), keepdim=True).sigmoid() * x, "NCHW"),
    "padded": (lambda m, x: F.pad(x, (1, 1, 1, 1)), "NCHW"),
    "attention weights": (
        lambda m, x: (x.flatten(2) @ x.flatten(2).mT)[:, None].softmax(-1),
        "",
    ),
    "folded windows": (lambda m, x: x.view(-1, C, 2, 4, 8).sum(3), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_axes_come_from_operations(name: str) -> None:
    function, axes = CASES[name]
    trace = probe(Run(function), (C, C, C))
    (result,) = (trace.values[v] for v in trace.outputs)
    assert result.axes == axes
    assert result.is_map == (axes in ("NCHW", "NHWC"))
    if result.is_map:
        assert result.channels == result.shape[axes.index("C")]
        assert (result.height, result.width) == (result.shape[axes.index("H")],) * 2


def test_sides_are_told_apart_in_nhwc() -> None:
    trace = probe(Run(lambda m, x: m.linear(x.permute(0, 2, 3, 1))), (C, 5, 7))
    value = trace.values[trace.outputs[0]]
    assert (value.channels, value.height, value.width) == (C, 5, 7)


def test_inputs_are_nchw_unless_they_are_no_batch_of_images() -> None:
    x = torch.zeros(2, 3, 9)
    assert probe(nn.ReLU(), (torch.zeros(2, 3, 9, 9),)).values[0].axes == "NCHW"
    assert probe(nn.ReLU(), (x,)).values[0].axes == "CHW"
    assert probe(nn.ReLU(), (torch.zeros(2, 3),)).values[0].axes == ""


def test_operations_that_tell_nothing() -> None:
    def none() -> None:
        return None

    four = (1, 2, 3, 4)
    assert derive_axes("permute", (None, [0, 3, 1, 2]), [], four, none) == "NCHW"
    assert derive_axes("permute", (None, [1, 0, 2, 3]), [], four, none) == ""
    assert derive_axes("transpose", (None, 1, 2), [], four, none) == ""
    assert derive_axes("bmm", (), [("NCHW", four)], four, none) == ""
    assert derive_axes("native_layer_norm", (None, [4]), [], four, none) == "NHWC"
    assert derive_axes("native_layer_norm", (None, [3, 4]), [], four, none) == ""
    assert derive_axes("add", (), [("", four), ("NHWC", four)], four, none) == "NHWC"
    assert derive_axes("relu", (), [("NCHW", four)], (1, 2, 3), none) == ""


@pytest.mark.parametrize("policy", ["post-residual", "in-residual", "stage-end"])
def test_attention_in_a_network_that_holds_nhwc(policy: str) -> None:
    """Equal to attention on the permuted map, with γ set."""
    model = BACKBONES["timm/mambaout_femto"]().eval()
    before = outputs(model)
    attnzoo.wrap(model, policy, "cbam", example=(3, 64, 64))
    assert same_bits(outputs(model), before)
    modules = [module for module in model.modules() if isinstance(module, Attention)]
    assert any(module.axes == "NHWC" for module in modules)
    seen: list[tuple[Attention, Tensor, Tensor]] = []
    for module in modules:
        torch.nn.init.uniform_(module.gamma)
        module.register_forward_hook(lambda m, args, y: seen.append((m, args[0], y)))
    outputs(model, example(1))
    assert len(seen) == len(modules)
    for module, x, y in seen:
        nchw = x.permute(0, 3, 1, 2) if module.axes == "NHWC" else x
        assert nchw.shape[1] == module.channels
        with torch.no_grad():
            gamma = module.gamma.view(-1, 1, 1)
            expected = nchw + gamma * (module.block(nchw) - nchw)
        result = y.permute(0, 3, 1, 2) if module.axes == "NHWC" else y
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_networks_by_their_axes() -> None:
    for name, axes in (("convnext_atto", "NCHW"), ("mambaout_femto", "NHWC")):
        with torch.device("meta"):
            model = timm.create_model(name)
        trace = probe(model, (3, 96, 64))
        blocks = [c for c in trace.calls if c.type in ("ConvNeXtBlock", "GatedConvBlock")]
        assert len(blocks) > 10
        for call in blocks:
            value = trace.output_map(call)
            assert value is not None
            assert value.axes == axes
            assert value.height * 2 == value.width * 3
