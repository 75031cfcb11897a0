"""Mean and maximum of a map, or of a map times its channel gate, which no pass keeps.

Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); mean and maximum as x, with 1 along the axes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_recorded
from attnzoo.kernels.gating import summed
from attnzoo.kernels.recompute import learning
from attnzoo.kernels.shapes import wide_dtype

__all__ = ["mean_and_maximum"]

Axes = tuple[int, ...]


def mean_and_maximum(x: Tensor, axes: Axes, channel: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and maximum over the axes, of x or of x times its channel gate.

    Equal maxima share the gradient, as in torch's own `amax`.
    """
    if not learning(x, channel) or is_recorded(x, channel):
        return _formula(x, channel, axes)
    return _MeanAndMaximum.apply(axes, x, channel)


def _formula(x: Tensor, channel: Tensor | None, axes: Axes) -> tuple[Tensor, Tensor]:
    z = _gated(x, channel)
    return z.mean(axes, keepdim=True), z.amax(axes, keepdim=True)


def _gated(x: Tensor, channel: Tensor | None) -> Tensor:
    return x if channel is None else (x * channel).to(x.dtype)


class _MeanAndMaximum(torch.autograd.Function):
    @staticmethod
    def forward(axes: Axes, x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor]:
        return _formula(x, channel, axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.axes, x, channel = inputs
        ctx.save_for_backward(x, channel, output[1])

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, channel, maximum = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = through_formula(lambda *t: _formula(*t, ctx.axes), (x, channel), given)
            return None, *found
        of_mean, of_maximum = given
        z = _gated(x, channel)
        dz = torch.eq(z, maximum, out=torch.empty_like(z) if channel is None else z)
        often = dz.sum(ctx.axes, keepdim=True, dtype=wide_dtype(z.dtype))
        share = of_mean / math.prod(z.shape[axis] for axis in ctx.axes)
        dz.mul_((of_maximum / often).to(z.dtype)).add_(share)
        if channel is None:
            return None, dz, None
        dchannel = summed(dz, x, channel) if ctx.needs_input_grad[2] else None
        return None, dz.mul_(channel), dchannel
