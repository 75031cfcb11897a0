"""Mean and variance of a batch, by which a normalisation is one product and one sum.

Who multiplies the normalised map anyway need not have it made: `w·(x − μ)/√(σ² + ε) + b` is
`x·scale + shift` with one number of each for a channel.

Shapes: x (N, C, H, W); mean and variance (1, C, 1, 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_recorded, is_watched
from attnzoo.kernels.recompute import learning

__all__ = ["scale_and_shift"]

_AXES = (0, 2, 3)


def scale_and_shift(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """With which `norm(x)` is `x · scale + shift`, each (1, C, 1, 1); running statistics move.

    Returns:
        None where the layer is to run itself: it is not a plain batch norm or is watched, somebody
        records operations, in half precision and on a GPU, whose own batch norms are as fast.
    """
    if is_recorded(x) or type(norm) is not nn.BatchNorm2d or is_watched(norm):
        return None
    if norm.weight is None or norm.bias is None or "forward" in vars(norm):
        return None
    fits = x.is_cpu and x.dtype == norm.weight.dtype and x.dtype in (torch.float32, torch.float64)
    if not fits:
        return None
    shape = (1, -1, 1, 1)
    by_batch = norm.training or norm.running_mean is None
    if by_batch and x.numel() > x.shape[1]:
        mean, variance = _of_batch(x)
        if norm.training and norm.track_running_stats:
            _move(norm, mean.detach(), variance.detach(), x.numel() // x.shape[1])
    elif norm.running_mean is not None and norm.running_var is not None:
        mean, variance = norm.running_mean.view(shape), norm.running_var.view(shape)
    else:
        return None
    scale = norm.weight.view(shape) * (variance + norm.eps).rsqrt()
    return scale, norm.bias.view(shape) - mean * scale


@torch.no_grad()
def _move(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, number: int) -> None:
    """The running statistics, as a call of the layer moves them."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / int(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0
    for running, found in (
        (norm.running_mean, mean),
        (norm.running_var, variance * (number / (number - 1))),
    ):
        if running is not None:
            running.mul_(1 - momentum).add_(found.view(-1), alpha=momentum)


def _of_batch(x: Tensor) -> tuple[Tensor, Tensor]:
    return _Moments.apply(x) if learning(x) else _formula(x)


def _formula(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(_AXES, keepdim=True)
    centred = x - mean
    squares = centred.square() if learning(x) else centred.square_()
    return mean, squares.mean(_AXES, keepdim=True)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return _formula(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Tensor | None:
        x, mean = ctx.saved_tensors
        if torch.is_grad_enabled():
            return through_formula(_formula, (x,), given)[0]
        of_mean, of_variance = (g * (mean.numel() / x.numel()) for g in given)
        slope = 2 * of_variance
        return (x * slope).add_(of_mean - mean * slope)
