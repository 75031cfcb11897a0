"""Triton kernels over all channels of a pixel: mean and maximum, and the way back from gates.

Needs triton; nothing imports this file before the first fused call. Shapes and launches are those
of `triton_forward`; maxima, equal ones and NaN those of `triton_planes`.

statistics (N, 2, P) are of z = x · channel, rounded to the dtype of x as the product would be if
it were written; where channel is None z is x.
"""

# Kernels can't have postponed annotations: Triton reads `tl.constexpr` from them.
# ruff: noqa: N803  # constants that size a block are written large, as everywhere in Triton

import triton
import triton.language as tl

from attnzoo.kernels.triton_backward import gradient
from attnzoo.kernels.triton_forward import gate
from attnzoo.kernels.triton_planes import higher, highest, share

__all__ = ["pixels", "spread_gates", "spread_pixels"]


@triton.jit
def scaled(v, channel, n, c, C, DTYPE: tl.constexpr):
    """V times the channel gate, rounded to the dtype of v, then as wide as sums are."""
    z = v.to(DTYPE)
    if channel is not None:
        k = tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
        z = (z * k).to(v.dtype).to(DTYPE)
    return z


@triton.jit(do_not_specialize=["first"])
def pixels(
    x,
    channel,
    statistics,
    often,
    first,
    C,
    P,
    sn,
    sc,
    sp,
    BC: tl.constexpr,
    BP: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """One read of x: mean and maximum of z over the channels, and how many have it (N, P)."""
    n = (first + tl.program_id(1)).to(tl.int64)
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    # Reduced over the block's channels after the loop only: threads wait for each other there.
    total = tl.zeros((BC, BP), dtype=DTYPE)
    top = tl.full((BC, BP), float("-inf"), dtype=DTYPE)
    places = tl.zeros((BC, BP), dtype=tl.int32)
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x + n * sn + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
        z = scaled(v, channel, n, c, C, DTYPE)
        total += z
        top, places = higher(top, places, tl.where(inside, z, float("-inf")), inside.to(tl.int32))
    mean = tl.sum(total, axis=0) / C
    maximum, count = highest(top, places, 0)
    at = n * 2 * P + p
    tl.store(statistics + at, mean.to(statistics.dtype.element_ty), mask=p < P)
    tl.store(statistics + at + P, maximum.to(statistics.dtype.element_ty), mask=p < P)
    tl.store(often + n * P + p, count, mask=p < P)


@triton.jit(do_not_specialize=["first"])
def spread_pixels(
    x,
    channel,
    base,
    g,
    statistics,
    often,
    dx,
    sums,
    first,
    C,
    P,
    tiles,
    sn,
    sc,
    sp,
    BC: tl.constexpr,
    BP: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Dx = base + channel · (what z gets), and sums (N, tiles, C) = Σ over the tile of x · that.

    g (N, 2, P): the gradient of the statistics. base can be None; sums is where channel is.
    """
    n = (first + tl.program_id(1)).to(tl.int64)
    tile = tl.program_id(0) % tiles
    p = tile * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * sn + c[:, None] * sc + p[None, :] * sp
    v = tl.load(x + at, mask=inside, other=0.0)
    z = scaled(v, channel, n, c, C, DTYPE)
    row = n * 2 * P + p
    top = tl.load(statistics + row + P, mask=p < P, other=0.0).to(DTYPE)[None, :]
    places = tl.load(often + n * P + p, mask=p < P, other=1)[None, :]
    acc = share(z, top, places, tl.load(g + row + P, mask=p < P, other=0.0).to(DTYPE)[None, :])
    acc += (tl.load(g + row, mask=p < P, other=0.0).to(DTYPE) / C)[None, :]
    if channel is not None:
        tl.store(sums + (n * tiles + tile) * C + c, tl.sum(acc * v.to(DTYPE), axis=1), mask=c < C)
        acc = acc * tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
    if base is not None:
        acc += tl.load(base + at, mask=inside, other=0.0).to(DTYPE)
    tl.store(dx + at, acc.to(dx.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["first"])
def spread_gates(
    x,
    g,
    codes,
    channel,
    spatial,
    gamma,
    dx,
    by_gate,
    by_one,
    of_spatial,
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
    DTYPE: tl.constexpr,
):
    """Back from x times given gates: one read of x and of g, one write of dx.

    by_gate, by_one (N, tiles, C): Σ over the tile of g·x·spatial, and of g·x where there is a γ.
    of_spatial (N, P): Σ over channels of g·x·channel·γ.
    """
    n = (first + tl.program_id(1)).to(tl.int64)
    tile = tl.program_id(0)
    p = tile * BP + tl.arange(0, BP)
    ds = tl.zeros((BC, BP), dtype=DTYPE)
    s = tl.load(spatial + n * P + p, mask=p < P, other=0.0)[None, :]
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        inside = (c < C)[:, None] & (p < P)[None, :]
        at = n * sn + c[:, None] * sc + p[None, :] * sp
        v = tl.load(x + at, mask=inside, other=0.0).to(DTYPE)
        dy = gradient(g, codes, n, c, p, inside, H, W, OH, OW, on, oc, op, POOL, DTYPE)
        gx = dy * v
        row = (n * tiles + tile) * C + c
        if by_gate is not None:
            tl.store(by_gate + row, tl.sum(gx * s, axis=1), mask=c < C)
        if by_one is not None:
            tl.store(by_one + row, tl.sum(gx, axis=1), mask=c < C)
        k = gate(channel, spatial, n, c, p, p < P, C, P, False)
        if channel is not None:
            gx = gx * tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
        if gamma is not None:
            soft = tl.load(gamma + c, mask=c < C, other=0.0).to(DTYPE)[:, None]
            gx = gx * soft
            k = 1.0 - soft * (1.0 - k)
        ds += gx
        tl.store(dx + at, (dy * k).to(dx.dtype.element_ty), mask=inside)
    tl.store(of_spatial + n * P + p, tl.sum(ds, axis=0), mask=p < P)
