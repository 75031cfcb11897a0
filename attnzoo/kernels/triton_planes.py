"""Triton kernels that reduce every plane of a map, H×W values: mean, variance, maximum.

Needs triton; nothing imports this file before the first fused call. Shapes and launches are those
of `triton_forward`.

The variance is summed about each tile's own mean, and the tiles are then combined: a difference
of large sums would lose it.

A maximum is kept with the number of places that have it, since they share its gradient. NaN wins,
as in PyTorch, and no place has it: 0 / 0 makes its gradient NaN.
"""

# Kernels can't have postponed annotations: Triton reads `tl.constexpr` from them.
# ruff: noqa: N803  # constants that size a block are written large, as everywhere in Triton

import triton
import triton.language as tl

__all__ = ["plane_tiles", "plane_totals", "spread_planes"]


@triton.jit
def highest(v, count, axis: tl.constexpr):
    """The maximum along an axis, and how often: `count` at each place, 0 where nothing is."""
    top = tl.max(tl.where((count > 0) & (v == v), v, float("-inf")), axis=axis)
    often = tl.sum(tl.where(v == tl.expand_dims(top, axis), count, 0), axis=axis)
    wrong = tl.sum((v != v).to(tl.int32), axis=axis) > 0
    return tl.where(wrong, float("nan"), top), tl.where(wrong, 0, often)


@triton.jit
def higher(top, often, other, count):
    """The same of two maxima, each with its number of places."""
    best = tl.where((other > top) | (other != other), other, top)
    return best, tl.where(top == best, often, 0) + tl.where(other == best, count, 0)


@triton.jit
def share(v, top, often, g):
    """The gradient of a maximum at values v: as that of `torch.amax`, split among equal ones."""
    return (v == top).to(g.dtype) * (g / often)


@triton.jit(do_not_specialize=["first"])
def plane_tiles(
    x,
    sums,
    squares,
    tops,
    counts,
    first,
    C,
    P,
    tiles,
    sn,
    sc,
    sp,
    BC: tl.constexpr,
    BP: tl.constexpr,
):
    """One read of x: sums, squares, tops, counts (N, tiles, C) of this tile's pixels.

    squares: Σ (x − mean of the tile)². Squares, or tops with counts, can be None.
    """
    n = (first + tl.program_id(1)).to(tl.int64)
    tile = tl.program_id(0) % tiles
    p = tile * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    v = tl.load(x + n * sn + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
    v = v.to(sums.dtype.element_ty)
    total = tl.sum(v, axis=1)
    at = (n * tiles + tile) * C + c
    tl.store(sums + at, total, mask=c < C)
    if squares is not None:
        mean = total / tl.minimum(P - tile * BP, BP)
        off = tl.where(inside, v - mean[:, None], 0.0)
        tl.store(squares + at, tl.sum(off * off, axis=1), mask=c < C)
    if tops is not None:
        top, often = highest(v, inside.to(tl.int32), 1)
        tl.store(tops + at, top, mask=c < C)
        tl.store(counts + at, often, mask=c < C)


@triton.jit(do_not_specialize=["first"])
def plane_totals(
    sums,
    squares,
    tops,
    counts,
    means,
    scales,
    maxima,
    often,
    first,
    C,
    P,
    tiles,
    SIZE: tl.constexpr,
    BC: tl.constexpr,
    BT: tl.constexpr,
    ENERGY: tl.constexpr,
):
    """What `plane_tiles` left of tiles of SIZE pixels → means, scales, maxima, often (N, C).

    scales = 1 / (4·(Σ (x − mean)² / (P − 1) + ENERGY)), with 0 for the quotient at P = 1.
    """
    n = (first + tl.program_id(1)).to(tl.int64)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    total = tl.zeros((BC,), dtype=sums.dtype.element_ty)
    top = tl.full((BC,), float("-inf"), dtype=sums.dtype.element_ty)
    places = tl.zeros((BC,), dtype=tl.int32)
    for t0 in range(0, tiles, BT):
        t = t0 + tl.arange(0, BT)
        inside = (t < tiles)[:, None] & (c < C)[None, :]
        at = (n * tiles + t)[:, None] * C + c[None, :]
        total += tl.sum(tl.load(sums + at, mask=inside, other=0.0), axis=0)
        if tops is not None:
            v = tl.load(tops + at, mask=inside, other=float("-inf"))
            other, more = highest(v, tl.load(counts + at, mask=inside, other=0), 0)
            top, places = higher(top, places, other, more)
    mean = total / P
    if squares is None:
        tl.store(maxima + n * C + c, top.to(maxima.dtype.element_ty), mask=c < C)
        tl.store(often + n * C + c, places, mask=c < C)
    else:
        square = tl.zeros((BC,), dtype=sums.dtype.element_ty)
        for t0 in range(0, tiles, BT):
            t = t0 + tl.arange(0, BT)
            inside = (t < tiles)[:, None] & (c < C)[None, :]
            at = (n * tiles + t)[:, None] * C + c[None, :]
            size = tl.maximum(tl.minimum(P - t * SIZE, SIZE), 1)[:, None]
            off = tl.load(sums + at, mask=inside, other=0.0) / size - mean[None, :]
            part = tl.load(squares + at, mask=inside, other=0.0) + off * off * size
            square += tl.sum(tl.where(inside, part, 0.0), axis=0)
        scale = 1.0 / (4.0 * (square / tl.maximum(P - 1, 1) + ENERGY))
        tl.store(scales + n * C + c, scale, mask=c < C)
    tl.store(means + n * C + c, mean.to(means.dtype.element_ty), mask=c < C)


@triton.jit(do_not_specialize=["first"])
def spread_planes(
    x,
    base,
    of_means,
    of_maxima,
    maxima,
    often,
    dx,
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
    """Dx = base + what each pixel gets from its plane's mean and maximum; base can be None."""
    n = (first + tl.program_id(1)).to(tl.int64)
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * sn + c[:, None] * sc + p[None, :] * sp
    v = tl.load(x + at, mask=inside, other=0.0).to(DTYPE)
    top = tl.load(maxima + n * C + c, mask=c < C, other=0.0).to(DTYPE)[:, None]
    places = tl.load(often + n * C + c, mask=c < C, other=1)[:, None]
    g = tl.load(of_maxima + n * C + c, mask=c < C, other=0.0).to(DTYPE)[:, None]
    acc = share(v, top, places, g)
    acc += (tl.load(of_means + n * C + c, mask=c < C, other=0.0).to(DTYPE) / P)[:, None]
    if base is not None:
        acc += tl.load(base + at, mask=inside, other=0.0).to(DTYPE)
    tl.store(dx + at, acc.to(dx.dtype.element_ty), mask=inside)
