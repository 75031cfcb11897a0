"""SimAM as an operator of PyTorch, `torch.ops.attnzoo.energy`, and its backward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels import plain
from attnzoo.kernels.common import on_device_of, through_formula
from attnzoo.kernels.shapes import memory_format, pooled_fakes, wide_dtype

__all__ = ["energy"]


@torch.library.custom_op("attnzoo::energy", mutates_args=())
def energy(
    x: Tensor,
    gamma: Tensor | None,
    e_lambda: float,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A map times the gate of each value, and the 2×2 pool behind: `(y, means, scales, codes)`.

        gate = σ((x − mean)² · scale + ½),    scale = 1 / (4·(variance + λ))

    Args:
        x: (N, C, H, W), NCHW or channels_last; anything else is copied.
        gamma: (C,), or None: `y = x·gate`; with it `y = x − γ·(x − x·gate)`.
        e_lambda: λ.
        pool: `""`, `"max"` or `"mean"`.
        ceil: whether windows may begin in the last row and column.
        images: how many are done at a time; 0 for as many as fit the device's L2 cache.
        keep: whether to write `codes`, which the backward pass of a maximum needs.
    """
    from attnzoo.kernels.launch_energy import forward

    with on_device_of(x):
        return forward(x, gamma, e_lambda, pool, ceil, images, keep)


@energy.register_fake
def _(
    x: Tensor,
    gamma: Tensor | None,
    e_lambda: float,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, codes = pooled_fakes(x, pool, ceil, keep)
    means, scales = (x.new_empty(x.shape[:2], dtype=wide_dtype(x.dtype)) for _ in range(2))
    return y, means, scales, codes


@torch.library.custom_op("attnzoo::energy_backward", mutates_args=())
def energy_backward(
    g: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    means: Tensor,
    scales: Tensor,
    codes: Tensor,
    pool: str,
    images: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of γ (empty without one), from that of y."""
    from attnzoo.kernels.launch_energy import backward

    with on_device_of(x):
        return backward(g, x, gamma, means, scales, codes, pool, images)


@energy_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    means: Tensor,
    scales: Tensor,
    codes: Tensor,
    pool: str,
    images: int,
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x, memory_format=memory_format(x)),
        means.new_empty(0) if gamma is None else torch.empty_like(gamma),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gamma, ctx.e_lambda, ctx.pool, ctx.ceil, ctx.images, _ = inputs
    ctx.save_for_backward(x, gamma, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
    x, gamma, *kept = ctx.saved_tensors
    dx = dgamma = None
    if g is not None and torch.is_grad_enabled():
        formula = partial(plain.energy, e_lambda=ctx.e_lambda, pool=ctx.pool, ceil=ctx.ceil)
        dx, dgamma = through_formula(lambda *given: [formula(*given)], (x, gamma), [g])
    elif g is not None:
        dx, dgamma = energy_backward(g, x, gamma, *kept, ctx.pool, ctx.images)
    return dx, None if gamma is None else dgamma, *(None,) * 5


energy.register_autograd(_backward, setup_context=_keep)
