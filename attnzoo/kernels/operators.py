"""The fused kernels as operators of PyTorch: `torch.ops.attnzoo.gated` and its backward pass.

They are opaque to `torch.compile`, which sees their shapes: how a batch is cut depends on the
device's cache, and written into the graph each cut would be four nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels import plain
from attnzoo.kernels.common import on_device_of, through_formula
from attnzoo.kernels.shapes import KINDS, memory_format, pooled_fakes, wide_dtype

__all__ = ["gated"]


@torch.library.custom_op("attnzoo::gated", mutates_args=())
def gated(
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    kind: str,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A map times its gates, and the 2×2 pool behind it: `(y, means, channel, spatial, codes)`.

    Args:
        x: (N, C, H, W), NCHW or channels_last; anything else is copied.
        weights: of the gates, as `KINDS[kind]` says; (out, in) with or without trailing ones.
        gamma: (C,), or None: `y = x·gate`; with it `y = x − γ·(x − x·gate)`.
        kind: a name of `KINDS`.
        pool: `""`, `"max"` or `"mean"`.
        ceil: whether windows may begin in the last row and column.
        images: how many are done at a time; 0 for as many as fit the device's L2 cache.
        keep: whether to write `codes`, which the backward pass of a maximum needs.
        scale: times the gates, of which the channel gate is returned with it.
    """
    from attnzoo.kernels.launch import forward

    with on_device_of(x):
        return forward(x, weights, gamma, kind, pool, ceil, images, keep, scale)


@gated.register_fake
def _(
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    kind: str,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (n, c, h, w), wide = x.shape, wide_dtype(x.dtype)
    y, codes = pooled_fakes(x, pool, ceil, keep)
    return (
        y,
        x.new_empty((n, c), dtype=wide),
        x.new_empty((n, c), dtype=wide),
        x.new_empty((n, h * w) if KINDS[kind].spatial else (0,), dtype=wide),
        codes,
    )


@torch.library.custom_op("attnzoo::gated_backward", mutates_args=())
def gated_backward(
    g: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    means: Tensor,
    channel: Tensor,
    spatial: Tensor,
    codes: Tensor,
    kind: str,
    pool: str,
    ceil: bool,
    images: int,
    scale: float,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x, of γ (empty without one) and of the weights, from that of y."""
    from attnzoo.kernels.launch import backward

    with on_device_of(x):
        kept = (means, channel, spatial, codes)
        return backward(g, x, weights, gamma, *kept, kind, pool, images, scale)


@gated_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    means: Tensor,
    channel: Tensor,
    spatial: Tensor,
    codes: Tensor,
    kind: str,
    pool: str,
    ceil: bool,
    images: int,
    scale: float,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    return (
        torch.empty_like(x, memory_format=memory_format(x)),
        means.new_empty(0) if gamma is None else torch.empty_like(gamma),
        [weight.new_empty(weight.shape) for weight in weights],
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, gamma, ctx.kind, ctx.pool, ctx.ceil, ctx.images, _, ctx.scale = inputs
    ctx.save_for_backward(x, gamma, *weights, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
    x, gamma, *rest = ctx.saved_tensors
    weights, kept = rest[:-4], rest[-4:]
    how = (ctx.kind, ctx.pool, ctx.ceil)
    dx, dgamma, grads = None, None, [None] * len(weights)
    if g is not None and torch.is_grad_enabled():

        def formula(x: Tensor, gamma: Tensor | None, *weights: Tensor) -> list[Tensor]:
            return [plain.gated(x, weights, gamma, *how, ctx.scale)]

        dx, dgamma, *grads = through_formula(formula, (x, gamma, *weights), [g])
    elif g is not None:
        dx, dgamma, grads = gated_backward(g, x, weights, gamma, *kept, *how, ctx.images, ctx.scale)
    return dx, list(grads), None if gamma is None else dgamma, *[None] * 6


gated.register_autograd(_backward, setup_context=_keep)
