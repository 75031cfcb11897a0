"""Triton kernels of the backward pass: two reads of x and of the gradient, one write.

Needs triton; nothing imports this file before the first fused backward pass.

With g the gradient of the result, k the gate at a place, u the hidden layer before its ReLU:
    sums        per tile: Σ g·x·s and Σ g·x over pixels; Σ_c g·x·… → the gradient of u, and of w2, b
    gate_sums   per image: through the channel gate's perceptron down to the means
    weight_sums per split: Σ du·x over pixels, the gradient of w1
    spread      dx = g·k + w1ᵀ du + what the mean got
Shapes and launches are those of `triton_forward`.
"""

# Kernels can't have postponed annotations: Triton reads `tl.constexpr` from them.
# ruff: noqa: N803  # constants that size a block are written large, as everywhere in Triton

import triton
import triton.language as tl

from attnzoo.kernels.triton_forward import gate, matrix, rectified

__all__ = ["gate_sums", "spread", "sums", "weight_sums"]


@triton.jit
def gradient(
    g, codes, n, c, p, inside, H, W, OH, OW, on, oc, op, POOL: tl.constexpr, dtype: tl.constexpr
):
    """The gradient at pixels p: as it is (POOL 0), or taken back through a 2×2 pool.

    POOL 1: a maximum, whose place `codes` tells. POOL 2: a mean over what is inside the map.
    """
    if POOL == 0:
        v = tl.load(g + n * on + c[:, None] * oc + p[None, :] * op, mask=inside, other=0.0)
        v = v.to(dtype)
    else:
        i = (p // W) // 2
        j = (p % W) // 2
        inside = inside & ((i < OH) & (j < OW))[None, :]
        at = n * on + c[:, None] * oc + (i * OW + j)[None, :] * op
        v = tl.load(g + at, mask=inside, other=0.0).to(dtype)
        if POOL == 1:
            place = 2 * ((p // W) % 2) + (p % W) % 2
            code = tl.load(codes + at, mask=inside, other=4).to(tl.int32)
            v = tl.where(code == place[None, :], v, 0.0)
        else:
            rows = tl.minimum(H - 2 * i, 2)
            columns = tl.minimum(W - 2 * j, 2)
            v = v / tl.maximum(rows * columns, 1)[None, :]
    return v


@triton.jit(do_not_specialize=["first"])
def sums(
    x,
    g,
    codes,
    channel,
    spatial,
    gamma,
    w1,
    b1,
    w2,
    by_gate,
    by_one,
    du,
    dw2,
    db1,
    db2,
    first,
    C,
    hidden,
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
    BH: tl.constexpr,
    BC: tl.constexpr,
    BP: tl.constexpr,
    ADD: tl.constexpr,
    POOL: tl.constexpr,
    WIDE: tl.constexpr,
    LARGEST: tl.constexpr,
):
    """by_gate, by_one (N, tiles, C): Σ over the tile of g·x·s, and of g·x where there is a γ.

    du (images of the cut, hidden, P), of x's dtype; dw2, db1 (N, tiles, hidden) and db2 (N, tiles),
    per tile.
    """
    tile = tl.program_id(0)
    n = (first + tl.program_id(1)).to(tl.int64)
    row = n * tiles + tile
    p = tile * BP + tl.arange(0, BP)
    h = tl.arange(0, BH)
    x += n * sn
    u = tl.zeros((BH, BP), dtype=by_gate.dtype.element_ty)
    ds = tl.zeros((BP,), dtype=by_gate.dtype.element_ty)
    if spatial is not None:
        s = tl.load(spatial + n * P + p, mask=p < P, other=0.0)
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        inside = (c < C)[:, None] & (p < P)[None, :]
        v = tl.load(x + c[:, None] * sc + p[None, :] * sp, mask=inside, other=0.0)
        dy = gradient(g, codes, n, c, p, inside, H, W, OH, OW, on, oc, op, POOL, u.dtype)
        gx = dy * v.to(u.dtype)
        if spatial is not None and not ADD:
            tl.store(by_gate + row * C + c, tl.sum(gx * s[None, :], axis=1), mask=c < C)
        else:
            tl.store(by_gate + row * C + c, tl.sum(gx, axis=1), mask=c < C)
        if by_one is not None:
            if spatial is not None and ADD:
                tl.store(by_one + row * C + c, tl.sum(gx * s[None, :], axis=1), mask=c < C)
            else:
                tl.store(by_one + row * C + c, tl.sum(gx, axis=1), mask=c < C)
        if w1 is not None:
            if not ADD:
                gx = gx * tl.load(channel + n * C + c, mask=c < C, other=0.0)[:, None]
            if gamma is not None:
                scale = tl.load(gamma + c, mask=c < C, other=0.0).to(u.dtype)
                gx = gx * scale[:, None]
            ds += tl.sum(gx, axis=0)
            if w2 is not None:
                w = matrix(w1, h, c, hidden, C, C, 1)
                if WIDE:
                    v = v.to(u.dtype)
                u = tl.dot(w.to(v.dtype), v, u, input_precision="ieee", out_dtype=u.dtype)
    if w1 is not None:
        da = tl.where(p < P, ds * s * (1.0 - s), 0.0)
        if w2 is not None:
            u = rectified(u, b1, h[:, None], hidden)
            w = tl.load(w2 + h, mask=h < hidden, other=0.0).to(u.dtype)
            change = tl.where(u > 0.0, w[:, None] * da[None, :], 0.0)
            tl.store(dw2 + row * hidden + h, tl.sum(u * da[None, :], axis=1), mask=h < hidden)
            tl.store(db1 + row * hidden + h, tl.sum(change, axis=1), mask=h < hidden)
        else:
            change = tl.where((h < hidden)[:, None], da[None, :], 0.0)
        tl.store(db2 + row, tl.sum(da, axis=0))
        if LARGEST > 0.0:  # of float16, so that no later sum is NaN
            change = tl.minimum(tl.maximum(change, -LARGEST), LARGEST)
        inside = (h < hidden)[:, None] & (p < P)[None, :]
        at = (n - first) * hidden * P + h[:, None] * P + p[None, :]
        tl.store(du + at, change.to(du.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["first"])
def gate_sums(
    by_gate,
    by_one,
    means,
    channel,
    gamma,
    w1,
    b1,
    w2,
    logit,
    unit,
    active,
    shift,
    dgamma,
    first,
    C,
    hidden,
    P,
    tiles,
    BH: tl.constexpr,
    BC: tl.constexpr,
    BT: tl.constexpr,
    ADD: tl.constexpr,
    SCALE: tl.constexpr = 1.0,
):
    """One image's sums → gradients of its channel gate, and of its means.

    logit (N, C): of the gate before its σ; unit, active (N, hidden): of the hidden layer before
    its ReLU, and what that layer gave; shift (N, C): what each pixel of x gets through the mean;
    dgamma (N, C). Without w1 no perceptron: logit and dgamma only.
    """
    n = (first + tl.program_id(0)).to(tl.int64)
    h = tl.arange(0, BH)
    u = tl.zeros((BH,), dtype=means.dtype.element_ty)
    dh = tl.zeros((BH,), dtype=means.dtype.element_ty)
    for c0 in range(0, C, BC):
        c = c0 + tl.arange(0, BC)
        gated = tl.zeros((BC,), dtype=means.dtype.element_ty)
        plain = tl.zeros((BC,), dtype=means.dtype.element_ty)
        for t0 in range(0, tiles, BT):
            t = t0 + tl.arange(0, BT)
            inside = (t < tiles)[:, None] & (c < C)[None, :]
            at = (n * tiles + t)[:, None] * C + c[None, :]
            gated += tl.sum(tl.load(by_gate + at, mask=inside, other=0.0), axis=0)
            if by_one is not None:
                plain += tl.sum(tl.load(by_one + at, mask=inside, other=0.0), axis=0)
        z = tl.load(channel + n * C + c, mask=c < C, other=0.0)
        dz = gated
        if gamma is not None:
            # ADD: the gate is z + s, and by_one holds Σ g·x·s instead of Σ g·x.
            if ADD:
                tl.store(dgamma + n * C + c, z * gated + plain - gated, mask=c < C)
            else:
                tl.store(dgamma + n * C + c, z * gated - plain, mask=c < C)
            dz = gated * tl.load(gamma + c, mask=c < C, other=0.0).to(u.dtype)
        dt = dz * z * (1.0 - z / SCALE)  # z is σ times the scale
        tl.store(logit + n * C + c, dt, mask=c < C)
        if w1 is not None:
            mean = tl.load(means + n * C + c, mask=c < C, other=0.0)
            w = matrix(w1, h, c, hidden, C, C, 1)
            u += tl.sum(w.to(u.dtype) * mean[None, :], axis=1)
            w = matrix(w2, h, c, hidden, C, 1, hidden)
            dh += tl.sum(w.to(u.dtype) * dt[None, :], axis=1)
    if w1 is not None:
        u = rectified(u, b1, h, hidden)
        dh = tl.where(u > 0.0, dh, 0.0)
        tl.store(active + n * hidden + h, u, mask=h < hidden)
        tl.store(unit + n * hidden + h, dh, mask=h < hidden)
        for c0 in range(0, C, BC):
            c = c0 + tl.arange(0, BC)
            w = matrix(w1, h, c, hidden, C, C, 1)
            dm = tl.sum(w.to(u.dtype) * dh[:, None], axis=0)
            tl.store(shift + n * C + c, dm / P, mask=c < C)


@triton.jit(do_not_specialize=["first", "images", "row", "splits"])
def weight_sums(
    x,
    du,
    dw1,
    first,
    images,
    row,
    splits,
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
    """dw1 (rows, hidden, C): Σ du·x over the pixels of one split of these images, at `row`."""
    split = tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    h = tl.program_id(2) * BH + tl.arange(0, BH)
    acc = tl.zeros((BH, BC), dtype=dw1.dtype.element_ty)
    for item in range(split, images * tiles, splits):
        n = (item // tiles).to(tl.int64)
        p = (item % tiles) * BP + tl.arange(0, BP)
        inside = (h < hidden)[:, None] & (p < P)[None, :]
        at = n * hidden * P + h[:, None] * P + p[None, :]
        d = tl.load(du + at, mask=inside, other=0.0)
        inside = (p < P)[:, None] & (c < C)[None, :]
        at = (first + n) * sn + p[:, None] * sp + c[None, :] * sc
        v = tl.load(x + at, mask=inside, other=0.0)
        if WIDE:
            d = d.to(acc.dtype)
            v = v.to(acc.dtype)
        acc = tl.dot(d, v, acc, input_precision="ieee", out_dtype=acc.dtype)
    at = (row + split).to(tl.int64) * hidden * C + h[:, None] * C + c[None, :]
    tl.store(dw1 + at, acc, mask=(h < hidden)[:, None] & (c < C)[None, :])


@triton.jit(do_not_specialize=["first"])
def spread(
    g,
    codes,
    channel,
    spatial,
    gamma,
    w1,
    du,
    shift,
    dx,
    first,
    C,
    hidden,
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
    BH: tl.constexpr,
    BC: tl.constexpr,
    BP: tl.constexpr,
    ADD: tl.constexpr,
    POOL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Dx = g · gate + w1ᵀ du + shift, written once, in the memory format of x."""
    n = (first + tl.program_id(1)).to(tl.int64)
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    c = (tl.program_id(0) // tiles) * BC + tl.arange(0, BC)
    inside = (c < C)[:, None] & (p < P)[None, :]
    k = gate(channel, spatial, n, c, p, p < P, C, P, ADD)
    if gamma is not None:
        k = 1.0 - tl.load(gamma + c, mask=c < C, other=0.0).to(k.dtype)[:, None] * (1.0 - k)
    acc = tl.zeros((BC, BP), dtype=channel.dtype.element_ty)
    if w1 is not None:
        for h0 in range(0, hidden, BH):
            h = h0 + tl.arange(0, BH)
            w = matrix(w1, c, h, C, hidden, 1, C)
            at = (n - first) * hidden * P + h[:, None] * P + p[None, :]
            d = tl.load(du + at, mask=(h < hidden)[:, None] & (p < P)[None, :], other=0.0)
            if WIDE:
                d = d.to(acc.dtype)
            acc = tl.dot(w.to(d.dtype), d, acc, input_precision="ieee", out_dtype=acc.dtype)
    dy = gradient(g, codes, n, c, p, inside, H, W, OH, OW, on, oc, op, POOL, acc.dtype)
    acc += dy * k + tl.load(shift + n * C + c, mask=c < C, other=0.0)[:, None]
    at = n * sn + c[:, None] * sc + p[None, :] * sp
    tl.store(dx + at, acc.to(dx.dtype.element_ty), mask=inside)
