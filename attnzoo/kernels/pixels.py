"""Mean and maximum over the channels of a map times its channel gate, which no pass keeps.

Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); statistics (N, 2, H, W).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_recorded
from attnzoo.kernels.gating import summed

__all__ = ["pixel_statistics"]


def pixel_statistics(x: Tensor, channel: Tensor | None = None) -> Tensor:
    """Mean and maximum over C of x, or of x times its channel gate."""
    if channel is None:
        return _statistics(x)
    learns = torch.is_grad_enabled() and (x.requires_grad or channel.requires_grad)
    if not learns or is_recorded(x, channel):
        return _formula(x, channel)
    return _PixelStatistics.apply(x, channel)


def _statistics(x: Tensor) -> Tensor:
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)


def _formula(x: Tensor, channel: Tensor) -> Tensor:
    return _statistics((x * channel).to(x.dtype))


class _PixelStatistics(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, channel: Tensor) -> Tensor:
        return _formula(x, channel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # ty: ignore[incompatible-method-override]
        x, channel, statistics = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(through_formula(lambda *given: [_formula(*given)], (x, channel), [g]))
        z = (x * channel).to(x.dtype)
        # Equal maxima share the gradient, as in torch's own amax.
        dz = torch.eq(z, statistics[:, 1:], out=z)
        often = dz.sum(1, keepdim=True)
        dz.mul_(g[:, 1:] / often).add_(g[:, :1] / x.shape[1])
        dchannel = summed(dz, x, channel) if ctx.needs_input_grad[1] else None
        return dz.mul_(channel), dchannel
