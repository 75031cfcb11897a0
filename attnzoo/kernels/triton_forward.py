"""Triton kernels of the forward pass: statistics, channel gate, apply, apply with a 2×2 pool.

Needs triton; nothing imports this file before the first fused call.

Shapes: x (N, C, P) with P = H·W pixels, in NCHW or channels_last by its strides (sn, sc, sp).
Gates and sums are in float32 (float64 for float64 maps). A launch covers some images of the batch,
from `first` on, so that what the first kernel read is still in the cache for the last.
"""

# Kernels can't have postponed annotations: Triton reads `tl.constexpr` from them.
# ruff: noqa: N803  # constants that size a block are written large, as everywhere in Triton

import triton
import triton.language as tl

__all__ = ["apply", "apply_pool", "channel_gate", "statistics"]


@triton.jit
def sigmoid(v):
    """σ(v), whose exponential can't overflow."""
    e = tl.exp(-tl.abs(v))
    return tl.where(v >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def matrix(w, i, j, rows, columns, by_row, by_column):
    """The block of a matrix at rows i and columns j, zero outside, from its two strides."""
    known = (i < rows)[:, None] & (j < columns)[None, :]
    return tl.load(w + i[:, None] * by_row + j[None, :] * by_column, mask=known, other=0.0)


@triton.jit
def rectified(u, b, h, hidden):
    """relu(u + b) of a hidden layer at units h; zero past the last, where 0 · inf was NaN."""
    u += tl.load(b + h, mask=h < hidden, other=0.0).to(u.dtype)
    return tl.where((h < hidden) & ~(u <= 0.0), u, 0.0)


@triton.jit(do_not_specialize=["first"])
def statistics(
    x,
    w1,
    b1,
    w2,
    b2,
    sums,
    spatial,
    first,
    C,
    hidden,
    P,
    tiles,
    sn,
    sc,
    sp,
    BH: tl.constexpr,
    BC: tl.constexpr,
    BP: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One read of x: the sum over this tile's pixels per channel, and the spatial gate.

    spatial = σ(w2 relu(w1 x + b1) + b2), or σ(w1 x + b1) with one hidden unit and no w2; no
    spatial gate without w1. sums (N, tiles, C) is what `channel_gate` adds up.
    """
    tile = tl.program_id(0)
    n = first + tl.program_id(1)
    p = tile * BP + tl.arange(0, BP)
    h = tl.arange(0, BH)
    x += n.to(tl.int64) * sn
    sums += (n.to(tl.int64) * tiles + tile) * C
    u = tl.zeros((BH, BP), dtype=sums.dtype.element_ty)
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
        total = tl.sum(v.to(sums.dtype.element_ty), axis=1)
        tl.store(sums + c, total, mask=c < C)
        if w1 is not None:
            w = matrix(w1, h, c, hidden, C, C, 1)
            if WIDE:
                v = v.to(sums.dtype.element_ty)
            u = tl.dot(w.to(v.dtype), v, u, input_precision="ieee", out_dtype=u.dtype)
    if w1 is not None:
        if w2 is not None:
            u = rectified(u, b1, h[:, None], hidden)
            w = tl.load(w2 + h, mask=h < hidden, other=0.0).to(u.dtype)
            logit = tl.sum(u * w[:, None], axis=0) + tl.load(b2).to(u.dtype)
        else:
            # Rows past the one unit may hold NaN, from 0 · inf.
            logit = tl.sum(tl.where((h < hidden)[:, None], u, 0.0), axis=0)
            logit += tl.load(b1).to(u.dtype)
        tl.store(spatial + n.to(tl.int64) * P + p, sigmoid(logit), mask=p < P)


@triton.jit(do_not_specialize=["first"])
def channel_gate(
    sums,
    w1,
    b1,
    w2,
    b2,
    means,
    channel,
    first,
    C,
    hidden,
    P,
    tiles,
    BH: tl.constexpr,
    BC: tl.constexpr,
    BT: tl.constexpr,
):
    """The sums of one image → means (N, C) and channel = σ(w2 relu(w1 means + b1) + b2) (N, C).

    Without w1 the means only.
    """
    n = (first + tl.program_id(0)).to(tl.int64)
    sums += n * tiles * C
    h = tl.arange(0, BH)
    u = tl.zeros((BH,), dtype=means.dtype.element_ty)
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        total = tl.zeros((BC,), dtype=means.dtype.element_ty)
        for t0 in range(0, tiles, BT):
            t = t0 + tl.arange(0, BT)
            inside = (t < tiles)[:, None] & (c < C)[None, :]
            part = tl.load(sums + t[:, None] * C + c[None, :], mask=inside, other=0.0)
            total += tl.sum(part, axis=0)
        mean = total / P
        tl.store(means + n * C + c, mean, mask=c < C)
        if w1 is not None:
            w = matrix(w1, h, c, hidden, C, C, 1)
            u += tl.sum(w.to(u.dtype) * mean[None, :], axis=1)
    if w1 is not None:
        u = rectified(u, b1, h, hidden)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            w = matrix(w2, c, h, C, hidden, hidden, 1)
            logit = tl.sum(w.to(u.dtype) * u[None, :], axis=1)
            logit += tl.load(b2 + c, mask=c < C, other=0.0).to(u.dtype)
            tl.store(channel + n * C + c, sigmoid(logit), mask=c < C)


@triton.jit
def gate(channel, spatial, n, c, p, known, C, P, ADD: tl.constexpr):
    """The gate at channels c and pixels p of image n: a product, a sum, or the one there is."""
    # No early return: what follows one is compiled all the same.
    if spatial is None:
        k = tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
    elif channel is None:
        k = tl.load(spatial + n * P + p, mask=known, other=0.0)[None, :]
    else:
        k = tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
        s = tl.load(spatial + n * P + p, mask=known, other=0.0)[None, :]
        k = k + s if ADD else k * s
    return k


@triton.jit
def energy(distance, scale):
    """SimAM's gate of values that far from their mean; scale is 1 / (4·(variance + λ))."""
    return sigmoid(distance * distance * scale + 0.5)


@triton.jit
def gate_of(v, channel, spatial, scale, n, c, p, known, C, P, ADD: tl.constexpr):
    """What `gate` says; with a scale (N, C) the energy of the values v about means in channel."""
    k = gate(channel, spatial, n, c, p, known, C, P, ADD)
    if scale is not None:
        k = energy(v.to(k.dtype) - k, tl.load(scale + n * C + c, mask=c < C, other=0.0)[:, None])
    return k


@triton.jit
def attended(v, k, gamma, c, C):
    """Return x · k, or with γ: x · (1 − γ·(1 − k)), which at γ = 0 is x, bit for bit."""
    wide = v.to(k.dtype)
    if gamma is None:
        y = (wide * k).to(v.dtype)
    else:
        g = tl.load(gamma + c, mask=c < C, other=0.0).to(k.dtype)[:, None]
        y = (wide * (1.0 - g * (1.0 - k))).to(v.dtype)
        y = tl.where(g == 0.0, v, y)
    return y


@triton.jit(do_not_specialize=["first"])
def apply(
    x,
    channel,
    spatial,
    scale,
    gamma,
    y,
    first,
    C,
    P,
    tiles,
    sn,
    sc,
    sp,
    BC: tl.constexpr,
    BP: tl.constexpr,
    ADD: tl.constexpr,
):
    """One read of x, one write of y, in the same memory format."""
    n = (first + tl.program_id(1)).to(tl.int64)
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    at = n * sn + c[:, None] * sc + p[None, :] * sp
    v = tl.load(x + at, mask=inside, other=0.0, eviction_policy="evict_first")
    k = gate_of(v, channel, spatial, scale, n, c, p, p < P, C, P, ADD)
    tl.store(y + at, attended(v, k, gamma, c, C), mask=inside)


@triton.jit(do_not_specialize=["first"])
def apply_pool(
    x,
    channel,
    spatial,
    scale,
    gamma,
    y,
    codes,
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
    ADD: tl.constexpr,
    MAX: tl.constexpr,
):
    """One read of x, a write of the 2×2 maximum (or mean) of what `apply` would write.

    Of windows past the edge only what is inside counts. As in PyTorch the first of equal maxima
    wins, and NaN wins over everything. codes: the place of the maximum in its window, 0 to 3.
    """
    n = (first + tl.program_id(1)).to(tl.int64)
    o = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    x += n * sn
    i = o // OW
    j = o % OW
    code = tl.zeros((BC, BP), dtype=tl.int32)
    count = tl.zeros((BP,), dtype=tl.int32)
    for q in tl.static_range(4):
        row = 2 * i + q // 2
        column = 2 * j + q % 2
        p = row * W + column
        known = (o < OH * OW) & (row < H) & (column < W)
        inside = (c < C)[:, None] & known[None, :]
        v = tl.load(x + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
        k = gate_of(v, channel, spatial, scale, n, c, p, known, C, P, ADD)
        v = attended(v, k, gamma, c, C).to(k.dtype)
        if MAX:
            if q == 0:
                top = v
            else:
                wins = ((v > top) | (v != v)) & known[None, :]
                top = tl.where(wins, v, top)
                code = tl.where(wins, q, code)
        else:
            v = tl.where(known[None, :], v, 0.0)
            top = v if q == 0 else top + v
            count += known.to(tl.int32)
    if not MAX:
        top = top / tl.maximum(count, 1)[None, :]
    inside = (c < C)[:, None] & (o < OH * OW)[None, :]
    at = n * on + c[:, None] * oc + o[None, :] * op
    tl.store(y + at, top.to(y.dtype.element_ty), mask=inside)
    if codes is not None:
        tl.store(codes + at, code.to(tl.uint8), mask=inside)
