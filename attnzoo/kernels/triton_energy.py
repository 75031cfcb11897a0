"""Triton kernels of the backward pass of SimAM: two reads of x and of the gradient, one write.

Needs triton; nothing imports this file before the first fused backward pass. Shapes and launches
are those of `triton_forward`, whose `apply` is the forward pass after `triton_planes`.

With g the gradient of the result, d = x − mean, a the scale, k = σ(d²·a + ½) the gate:
    q = g·x·k·(1 − k), times γ where there is one
    energy_sums    per tile: Σ q·d, Σ q·d², and Σ g·x·(k − 1), the gradient of γ
    energy_totals  per plane: what each pixel gets through the mean, and through the variance
    energy_spread  dx = g·k + 2·a·q·d + shift + slope·d
"""

# Kernels can't have postponed annotations: Triton reads `tl.constexpr` from them.
# ruff: noqa: N803  # constants that size a block are written large, as everywhere in Triton

import triton
import triton.language as tl

from attnzoo.kernels.triton_backward import gradient
from attnzoo.kernels.triton_forward import energy

__all__ = ["energy_spread", "energy_sums", "energy_totals"]


@triton.jit
def parts(
    x, g, codes, means, scales, gamma, n, c, p, inside, C, H, W, OH, OW, sn, sc, sp, on, oc, op,
    POOL: tl.constexpr,
):  # fmt: skip
    """At channels c and pixels p of image n: g, x, d, a, k, q, and γ (1 without one)."""
    v = tl.load(x + n * sn + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
    mean = tl.load(means + n * C + c, mask=c < C, other=0.0)[:, None]
    scale = tl.load(scales + n * C + c, mask=c < C, other=0.0)[:, None]
    v = v.to(mean.dtype)
    dy = gradient(g, codes, n, c, p, inside, H, W, OH, OW, on, oc, op, POOL, mean.dtype)
    off = v - mean
    k = energy(off, scale)
    soft = tl.full((1, 1), 1.0, dtype=mean.dtype)
    if gamma is not None:
        soft = tl.load(gamma + c, mask=c < C, other=0.0).to(mean.dtype)[:, None]
    return dy, v, off, scale, k, soft * dy * v * k * (1.0 - k), soft


@triton.jit(do_not_specialize=["first"])
def energy_sums(
    x,
    g,
    codes,
    means,
    scales,
    gamma,
    by_one,
    by_two,
    by_gamma,
    first,
    C,
    P,
    H,
    W,
    OH,
    OW,
    tiles,
    sn,
    sc,
    sp,
    on,
    oc,
    op,
    BC: tl.constexpr,
    BP: tl.constexpr,
    POOL: tl.constexpr,
):
    """by_one, by_two, by_gamma (N, tiles, C): Σ over the tile of q·d, q·d² and g·x·(k − 1)."""
    n = (first + tl.program_id(1)).to(tl.int64)
    tile = tl.program_id(0) % tiles
    p = tile * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    dy, v, off, _, k, q, _ = parts(
        x, g, codes, means, scales, gamma, n, c, p, inside, C, H, W, OH, OW, sn, sc, sp, on, oc,
        op, POOL,
    )  # fmt: skip
    at = (n * tiles + tile) * C + c
    tl.store(by_one + at, tl.sum(q * off, axis=1), mask=c < C)
    tl.store(by_two + at, tl.sum(q * off * off, axis=1), mask=c < C)
    if gamma is not None:
        tl.store(by_gamma + at, tl.sum(dy * v * (k - 1.0), axis=1), mask=c < C)


@triton.jit(do_not_specialize=["first"])
def energy_totals(
    by_one,
    by_two,
    by_gamma,
    scales,
    shift,
    slope,
    dgamma,
    first,
    C,
    P,
    tiles,
    BC: tl.constexpr,
    BT: tl.constexpr,
):
    """The sums of tiles → shift = −2·a·Σ q·d / P, slope = −8·a²·Σ q·d² / (P − 1), dgamma (N, C)."""
    n = (first + tl.program_id(1)).to(tl.int64)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    one = tl.zeros((BC,), dtype=by_one.dtype.element_ty)
    two = tl.zeros((BC,), dtype=by_one.dtype.element_ty)
    change = tl.zeros((BC,), dtype=by_one.dtype.element_ty)
    for t0 in range(0, tiles, BT):
        t = t0 + tl.arange(0, BT)
        inside = (t < tiles)[:, None] & (c < C)[None, :]
        at = (n * tiles + t)[:, None] * C + c[None, :]
        one += tl.sum(tl.load(by_one + at, mask=inside, other=0.0), axis=0)
        two += tl.sum(tl.load(by_two + at, mask=inside, other=0.0), axis=0)
        if by_gamma is not None:
            change += tl.sum(tl.load(by_gamma + at, mask=inside, other=0.0), axis=0)
    scale = tl.load(scales + n * C + c, mask=c < C, other=0.0)
    tl.store(shift + n * C + c, -2.0 * scale * one / P, mask=c < C)
    tl.store(slope + n * C + c, -8.0 * scale * (scale * two) / tl.maximum(P - 1, 1), mask=c < C)
    if by_gamma is not None:
        tl.store(dgamma + n * C + c, change, mask=c < C)


@triton.jit(do_not_specialize=["first"])
def energy_spread(
    x,
    g,
    codes,
    means,
    scales,
    gamma,
    shift,
    slope,
    dx,
    first,
    C,
    P,
    H,
    W,
    OH,
    OW,
    tiles,
    sn,
    sc,
    sp,
    on,
    oc,
    op,
    BC: tl.constexpr,
    BP: tl.constexpr,
    POOL: tl.constexpr,
):
    """Dx, written once, in the memory format of x."""
    n = (first + tl.program_id(1)).to(tl.int64)
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    dy, _, off, scale, k, q, soft = parts(
        x, g, codes, means, scales, gamma, n, c, p, inside, C, H, W, OH, OW, sn, sc, sp, on, oc,
        op, POOL,
    )  # fmt: skip
    moved = tl.load(shift + n * C + c, mask=c < C, other=0.0)[:, None]
    tilt = tl.load(slope + n * C + c, mask=c < C, other=0.0)[:, None]
    acc = dy * (1.0 - soft * (1.0 - k)) + 2.0 * scale * q * off + moved + tilt * off
    at = n * sn + c[:, None] * sc + p[None, :] * sp
    tl.store(dx + at, acc.to(dx.dtype.element_ty), mask=inside)
