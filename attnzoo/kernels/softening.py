"""A block's result softened by γ: `base + γ·(y − base)`, for blocks that are no gates.

Without γ all that is done with it is to lay it out in memory as the map was. Residual blocks add
what they found to their map by `added`.

γ = 0 gives the base bit for bit, whatever the block returns: an overflow of the block is not let
in as 0·∞.

Shapes: base and y (N, C, H, W) or with the axes elsewhere; γ as broadcasts with them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_exported, is_recorded
from attnzoo.kernels.recompute import learning

__all__ = ["added", "laid_as", "softened"]


def softened(base: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """`base + γ·(y − base)` in the dtype and layout of the base."""
    y, gamma = y.to(base.dtype), gamma.to(base.dtype)
    if not torch.jit.is_scripting():
        return _softened(base, y, gamma)
    return base - gamma * (base - y)


def added(x: Tensor, change: Tensor) -> Tensor:
    """`x + change`, where a change of zero, of either sign, gives x bit for bit.

    x + 0 would turn the negative zeros of x into positive ones; 0 − change is never a negative
    zero. A change that broadcasts is small before it is added.
    """
    return x - (0.0 - change) if torch.jit.is_scripting() else _added(x, change)


@torch.jit.unused
def _added(x: Tensor, change: Tensor) -> Tensor:
    fits = (x.shape, x.stride(), x.dtype) == (change.shape, change.stride(), change.dtype)
    if not fits or is_recorded(x, change):
        return x - (0.0 - change)
    return _Added.apply(x, change) if learning(x, change) else _Added.forward(x, change)


def laid_as(y: Tensor, x: Tensor) -> Tensor:
    """`y`, laid out in memory as `x`, as far as the two usual layouts go.

    Of the same numbers laid out otherwise, the layers behind would make others.
    """
    return y if torch.jit.is_scripting() else _laid_as(y, x)


@torch.jit.unused
def _laid_as(y: Tensor, x: Tensor) -> Tensor:
    if is_recorded(x, y) or y.stride() == x.stride():
        return y
    if x.is_contiguous():
        return y.contiguous()
    last = x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if last else y


@torch.jit.unused
def _softened(base: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    if is_recorded(base, y, gamma):
        return _formula(base, y, gamma, None if is_exported(base) else gamma == 0)
    if not learning(base, y, gamma):
        return _Softening.forward(base, y, gamma)
    return _Softening.apply(base, y, gamma)


def _formula(base: Tensor, y: Tensor, gamma: Tensor, shut: Tensor | None) -> Tensor:
    if shut is None:
        return base - gamma * (base - y)
    change = gamma * (y - base)
    change = torch.where(change.isfinite(), change, 0.0)
    # 0 − change is never a negative zero, and base − 0 is base bit for bit.
    return torch.where(shut, base - (0.0 - change), torch.lerp(base, y, gamma))


class _Softening(torch.autograd.Function):
    @staticmethod
    def forward(base: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
        result = torch.lerp(base, y, gamma)  # which rounds as in the formula that is recorded
        shut = gamma == 0
        return torch.where(shut, base, result) if _matters(shut) else result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # ty: ignore[incompatible-method-override]
        base, y, gamma = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(
                through_formula(lambda *given: [_formula(*given, None)], (base, y, gamma), [g])
            )
        dy = g * gamma
        dgamma = ((y - base).mul_(g)).sum_to_size(gamma.shape) if ctx.needs_input_grad[2] else None
        return (g - dy if ctx.needs_input_grad[0] else None), dy, dgamma


class _Added(torch.autograd.Function):
    """With one new map instead of two."""

    @staticmethod
    def forward(x: Tensor, change: Tensor) -> Tensor:
        negative = 0.0 - change
        return torch.sub(x, negative, out=negative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:  # ty: ignore[incompatible-method-override]
        return g, g


def _matters(shut: Tensor) -> bool:
    """Whether γ is zero anywhere, which only a CPU is asked: others would have to be waited for."""
    plain = type(shut) is Tensor and shut.device.type == "cpu"
    return not plain or bool(shut.any())
