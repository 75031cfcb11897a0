"""What CBAM is made from, as operators of PyTorch: two reductions, and a map times given gates.

- `torch.ops.attnzoo.planes`: mean and maximum of every channel;
- `torch.ops.attnzoo.pixels`: mean and maximum over the channels, of a map or of one times its
  channel gate, which is not written for it;
- `torch.ops.attnzoo.gate_maps`: the map times channel and spatial gate, with γ and the pool.

The layers between them see the small tensors only and stay modules, so that BatchNorm and
autocast do as they always do.

All three read the same x. Each of the first two also gives a `later`, a zero that has the shape of
x and no memory of its own, and the next one takes x + later for its x: x itself without a gradient,
and so the gradient of x goes back through later, to the operator before. That one adds it to what
it writes anyway, where autograd would add up three maps.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels import plain
from attnzoo.kernels.common import on_device_of, through_formula
from attnzoo.kernels.shapes import memory_format, pooled_fakes, wide_dtype

__all__ = ["gate_maps", "pixels", "planes"]


def _later(x: Tensor, keep: bool) -> Tensor:
    return x.new_zeros(()).expand(x.shape) if keep else x.new_empty(0)


# --- planes --------------------------------------------------------------------------------------


@torch.library.custom_op("attnzoo::planes", mutates_args=())
def planes(x: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and maximum over H and W: `(mean, maximum, often, later)`.

    mean, maximum (N, C, 1, 1), of the dtype of x; often (N, C): how many have the maximum.
    Where it is not to be kept `later` is empty.
    """
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return *launch_gates.planes(x), _later(x, keep)


@planes.register_fake
def _(x: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    size = (*x.shape[:2], 1, 1)
    often = x.new_empty(x.shape[:2], dtype=torch.int32)
    return x.new_empty(size), x.new_empty(size), often, _later(x, keep)


@torch.library.custom_op("attnzoo::planes_backward", mutates_args=())
def planes_backward(
    of_later: Tensor | None,
    of_mean: Tensor,
    of_maximum: Tensor,
    x: Tensor,
    maximum: Tensor,
    often: Tensor,
) -> Tensor:
    """The gradient of x."""
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return launch_gates.planes_backward(of_later, of_mean, of_maximum, x, maximum, often)


@planes_backward.register_fake
def _(
    of_later: Tensor | None,
    of_mean: Tensor,
    of_maximum: Tensor,
    x: Tensor,
    maximum: Tensor,
    often: Tensor,
) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


def _keep_planes(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.keep = inputs
    _, maximum, often, _ = output
    ctx.save_for_backward(x, maximum, often)


def _planes_backward(
    ctx: Any, of_mean: Tensor, of_maximum: Tensor, _: Tensor, of_later: Tensor
) -> tuple[Tensor | None, None]:
    x, maximum, often = ctx.saved_tensors
    base = of_later if ctx.keep else None
    if torch.is_grad_enabled():
        return through_formula(plain.planes, [x], [of_mean, of_maximum, base])[0], None
    return planes_backward(base, of_mean, of_maximum, x, maximum, often), None


planes.register_autograd(_planes_backward, setup_context=_keep_planes)


# --- pixels --------------------------------------------------------------------------------------


@torch.library.custom_op("attnzoo::pixels", mutates_args=())
def pixels(
    x: Tensor, later: Tensor | None, channel: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and maximum over C of x · channel: `(statistics, often, later)`.

    statistics (N, 2, H, W), of the dtype of x; often (N, H·W): how many have the maximum.

    Args:
        x: (N, C, H, W); if there is a `later`, without a gradient.
        later: of the operator before, or None.
        channel: gate (N, C, 1, 1), or None for x itself.
        keep: whether there is to be a `later`; else it is empty.
    """
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return *launch_gates.pixels(x, channel), _later(x, keep)


@pixels.register_fake
def _(
    x: Tensor, later: Tensor | None, channel: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    n, _, h, w = x.shape
    often = x.new_empty((n, h * w), dtype=torch.int32)
    return x.new_empty((n, 2, h, w)), often, _later(x, keep)


@torch.library.custom_op("attnzoo::pixels_backward", mutates_args=())
def pixels_backward(
    of_later: Tensor | None,
    g: Tensor,
    x: Tensor,
    channel: Tensor | None,
    statistics: Tensor,
    often: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the channel gate (empty without one)."""
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return launch_gates.pixels_backward(of_later, g, x, channel, statistics, often)


@pixels_backward.register_fake
def _(
    of_later: Tensor | None,
    g: Tensor,
    x: Tensor,
    channel: Tensor | None,
    statistics: Tensor,
    often: Tensor,
) -> tuple[Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=memory_format(x))
    return dx, _fake_gradient(x, channel)


def _keep_pixels(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.keep = inputs
    ctx.save_for_backward(*tensors, *output[:2])


def _pixels_backward(ctx: Any, g: Tensor, _: Tensor, of_later: Tensor) -> tuple[Tensor | None, ...]:
    x, later, channel, *kept = ctx.saved_tensors
    base = of_later if ctx.keep else None
    if torch.is_grad_enabled():
        return *through_formula(plain.pixels, [x, later, channel], [g, base]), None
    dx, dchannel = pixels_backward(base, g, x, channel, *kept)
    return *_to(dx, later), None if channel is None else dchannel, None


pixels.register_autograd(_pixels_backward, setup_context=_keep_pixels)


# --- gate_maps -----------------------------------------------------------------------------------


@torch.library.custom_op("attnzoo::gate_maps", mutates_args=())
def gate_maps(
    x: Tensor,
    later: Tensor | None,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    pool: str,
    ceil: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """A map times given gates, and the 2×2 pool behind it: `(y, codes)`.

    Args:
        x: (N, C, H, W); if there is a `later`, without a gradient.
        later: of the operator before, or None.
        channel: (N, C, 1, 1), or None.
        spatial: (N, 1, H, W).
        gamma: (C,), or None: `y = x·gate`; with it `y = x − γ·(x − x·gate)`.
        pool: `""`, `"max"` or `"mean"`.
        ceil: whether windows may begin in the last row and column.
        keep: whether to write `codes`, which the backward pass of a maximum needs.
    """
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return launch_gates.gate_maps(x, channel, spatial, gamma, pool, ceil, keep)


@gate_maps.register_fake
def _(
    x: Tensor,
    later: Tensor | None,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    pool: str,
    ceil: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    return pooled_fakes(x, pool, ceil, keep)


@torch.library.custom_op("attnzoo::gate_maps_backward", mutates_args=())
def gate_maps_backward(
    g: Tensor,
    x: Tensor,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    codes: Tensor,
    pool: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, of the channel gate, the spatial gate and γ; empty where there is none."""
    from attnzoo.kernels import launch_gates

    with on_device_of(x):
        return launch_gates.gate_maps_backward(g, x, channel, spatial, gamma, codes, pool)


@gate_maps_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    codes: Tensor,
    pool: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=memory_format(x))
    dgamma = _fake_gradient(x, gamma)
    return dx, _fake_gradient(x, channel), spatial.new_empty(spatial.shape), dgamma


def _keep_gate_maps(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.pool, ctx.ceil, _ = inputs
    ctx.save_for_backward(*tensors, output[1])


def _gate_maps_backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, codes = ctx.saved_tensors
    x, later, channel, spatial, gamma = inputs
    if torch.is_grad_enabled():
        formula = partial(plain.gate_maps, pool=ctx.pool, ceil=ctx.ceil)
        found = through_formula(lambda *given: [formula(*given)], inputs, [g])
        return *found, None, None, None
    dx, dchannel, dspatial, dgamma = gate_maps_backward(
        g, x, channel, spatial, gamma, codes, ctx.pool
    )
    given = (None if channel is None else dchannel, dspatial, None if gamma is None else dgamma)
    return *_to(dx, later), *given, None, None, None


gate_maps.register_autograd(_gate_maps_backward, setup_context=_keep_gate_maps)


def _to(dx: Tensor, later: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and of later: all to the one that passes it on."""
    return (dx, None) if later is None else (None, dx)


def _fake_gradient(x: Tensor, of: Tensor | None) -> Tensor:
    return x.new_empty(0, dtype=wide_dtype(x.dtype)) if of is None else of.new_empty(of.shape)
