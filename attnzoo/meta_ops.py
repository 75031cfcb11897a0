"""Shapes of the most frequent operations, worked out directly.

On meta tensors torch computes some shapes through long Python decompositions (0.6 ms for one
batch norm). The rules here give the same shapes some hundred times faster; a rule answers None
for any case it does not know, and torch's own implementation is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["SHAPE_RULES"]

aten = torch.ops.aten


def _same(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _itself(x: Tensor, *_: Any) -> Tensor:
    return x


def _binary(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    if isinstance(y, Tensor) and (x.shape != y.shape or x.dtype != y.dtype):
        return None
    return torch.empty_like(x)


def _binary_in_place(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    if isinstance(y, Tensor) and (x.shape != y.shape or x.dtype != y.dtype):
        return None
    return x


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    spatial = weight.shape[2:]
    if transposed or x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * groups:
        return None
    if x.dtype != weight.dtype or not len(stride) == len(padding) == len(dilation) == len(spatial):
        return None
    sizes = [
        (size + 2 * pad - dil * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, dil in zip(
            x.shape[2:], spatial, stride, padding, dilation, strict=True
        )
    ]
    if min(sizes) < 1:
        return None
    return x.new_empty((x.shape[0], weight.shape[0], *sizes))


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


def _layer_norm(x: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    if tuple(x.shape[-len(shape) :]) != tuple(shape):
        return None
    kept = (*x.shape[: x.ndim - len(shape)], *(1 for _ in shape))
    return torch.empty_like(x), x.new_empty(kept), x.new_empty(kept)


def _addmm(bias: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[0] or x.dtype != y.dtype:
        return None
    return x.new_empty((x.shape[0], y.shape[1]))


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    shape = list(first.shape)
    axis = dim % first.ndim if first.ndim else 0
    for tensor in tensors[1:]:
        if tensor.ndim != first.ndim or tensor.dtype != first.dtype:
            return None
        if any(
            a != b for i, (a, b) in enumerate(zip(tensor.shape, shape, strict=True)) if i != axis
        ):
            return None
        shape[axis] += tensor.shape[axis]
    return first.new_empty(shape) if first.ndim else None


_UNARY = "relu gelu silu sigmoid hardtanh hardswish hardsigmoid leaky_relu elu mish tanh clone"
_UNARY_IN_PLACE = "relu_ silu_ sigmoid_ hardtanh_ hardswish_ hardsigmoid_ leaky_relu_ elu_ mish_"

#: Overload → function of the same positional arguments that returns empty results or None.
SHAPE_RULES: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.addmm.default: _addmm,
    aten.cat.default: _cat,
    **{getattr(aten, name).Tensor: _binary for name in ("add", "sub", "mul", "div")},
    **{getattr(aten, name).Tensor: _binary_in_place for name in ("add_", "sub_", "mul_", "div_")},
    **{getattr(aten, name).default: _same for name in _UNARY.split()},
    **{getattr(aten, name).default: _itself for name in _UNARY_IN_PLACE.split()},
}
