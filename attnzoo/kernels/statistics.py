"""Means and maxima of a map, or of a map times its channel gate, which no pass keeps.

Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); mean and maximum as x, with 1 along the axes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_exported, is_recorded, is_watched
from attnzoo.kernels.gating import summed
from attnzoo.kernels.images import at_once, in_turn
from attnzoo.kernels.recompute import learning
from attnzoo.kernels.shapes import wide_dtype

__all__ = ["before_mean", "deviation", "mean", "mean_and_maximum", "quotient", "squares"]

Axes = tuple[int, ...]


def mean(x: Tensor, axes: list[int], keepdim: bool = True) -> Tensor:
    """Mean over the axes, with a gradient that takes no map.

    That of `torch.mean` is divided as a map, all of whose values are the same along the axes.
    """
    return x.mean(axes, keepdim=keepdim) if torch.jit.is_scripting() else _mean(x, axes, keepdim)


@torch.jit.unused
def _mean(x: Tensor, axes: list[int], keepdim: bool = True) -> Tensor:
    # In half precision the sum could overflow.
    if is_recorded(x) or not learning(x) or wide_dtype(x.dtype) != x.dtype:
        return x.mean(axes, keepdim=keepdim)
    return x.sum(axes, keepdim=keepdim) / math.prod(x.shape[axis] for axis in axes)


def before_mean(x: Tensor, layers: nn.Module) -> Tensor:
    """What layers are given that begin with the mean over H and W: the mean, whose mean it is.

    So x gets its gradient as from `mean`. Where they begin otherwise, and where somebody watches
    them, it is x itself.
    """
    pool = layers[0] if isinstance(layers, nn.Sequential) and len(layers) else None
    if type(pool) is not nn.AdaptiveAvgPool2d or pool.output_size not in (1, (1, 1)):
        return x
    if is_recorded(x) or not learning(x) or any(map(is_watched, layers.modules())):
        return x
    return _mean(x, [2, 3])


def deviation(centred: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Standard deviation over the axes, which become 1, of values whose mean is zero.

    As a norm, which a CPU computes many times faster; where it is recorded, as it is, and for
    exporters as a mean, which every tool knows. The root has no gradient at zero, as torch's.
    """
    if is_exported(centred):
        variance = centred.square().mean(axes, keepdim=True)
        return variance.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    if is_recorded(centred):
        return centred.std(axes, correction=0, keepdim=True)
    size = math.prod(centred.shape[axis] for axis in axes)
    return torch.linalg.vector_norm(centred, dim=axes, keepdim=True) / math.sqrt(size)


def squares(x: Tensor, axes: list[int]) -> Tensor:
    """Sum of squares over the axes, which become 1, and no map of squares.

    As a norm, which a CPU computes many times faster; where it is recorded, as it is.
    """
    if torch.jit.is_scripting():
        return x.square().sum(axes, keepdim=True)
    return _squares(x, axes)


@torch.jit.unused
def _squares(x: Tensor, axes: list[int]) -> Tensor:
    if is_recorded(x):
        return _sum_of_squares(x, axes)
    return _Squares.apply(axes, x) if learning(x) else _Squares.forward(axes, x)


def _sum_of_squares(x: Tensor, axes: list[int]) -> Tensor:
    return x.square().sum(axes, keepdim=True)


class _Squares(torch.autograd.Function):
    @staticmethod
    def forward(axes: list[int], x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=axes, keepdim=True).square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.axes, x = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor | None]:  # ty: ignore[incompatible-method-override]
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, through_formula(lambda t: [_sum_of_squares(t, ctx.axes)], (x,), [g])[0]
        return None, x * (2 * g)


def quotient(x: Tensor, by: Tensor) -> Tensor:
    """A map by something smaller: times its reciprocal, whose gradient takes three maps less.

    An exported program divides: XNNPACK of ExecuTorch 1.5 takes no reciprocal.
    """
    return x / by if torch.jit.is_scripting() else _quotient(x, by)


@torch.jit.unused
def _quotient(x: Tensor, by: Tensor) -> Tensor:
    return x / by if is_exported(x) else x * by.reciprocal()


def mean_and_maximum(x: Tensor, axes: Axes, channel: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and maximum over the axes, of x or of x times its channel gate.

    Equal maxima share the gradient, as in torch's own `amax`.
    """
    if is_recorded(x, channel):
        return _formula(x, channel, axes)
    if not learning(x, channel):
        return _MeanAndMaximum.forward(axes, x, channel)
    return _MeanAndMaximum.apply(axes, x, channel)


def _formula(x: Tensor, channel: Tensor | None, axes: Axes) -> tuple[Tensor, Tensor]:
    z = _gated(x, channel)
    return z.mean(axes, keepdim=True), z.amax(axes, keepdim=True)


def _in_turn(x: Tensor, channel: Tensor, axes: Axes, images: int) -> tuple[Tensor, Tensor]:
    """The same, a few images at a time."""
    size = [1 if axis in axes else length for axis, length in enumerate(x.shape)]
    total, maximum, space = x.new_empty(size), x.new_empty(size), torch.empty_like(x[:images])
    for part, gate, one, other in in_turn(images, x, channel, total, maximum):
        z = torch.mul(part, gate, out=space[: len(part)])
        torch.sum(z, axes, keepdim=True, out=one)
        torch.amax(z, axes, keepdim=True, out=other)
    return total.div_(math.prod(x.shape[axis] for axis in axes)), maximum


def _gated(x: Tensor, channel: Tensor | None) -> Tensor:
    return x if channel is None else (x * channel).to(x.dtype)


class _MeanAndMaximum(torch.autograd.Function):
    @staticmethod
    def forward(axes: Axes, x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor]:
        images, plain = at_once(x), x.is_contiguous() and wide_dtype(x.dtype) == x.dtype
        if channel is None or channel.dtype != x.dtype or not plain or images == len(x):
            return _formula(x, channel, axes)
        return _in_turn(x, channel, axes, images)

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
