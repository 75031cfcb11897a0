"""Runs on tensors what CBAM's gates are made from, and the way back from them.

Imports triton, so it is itself imported by the first fused call only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnzoo.kernels import triton_columns, triton_planes
from attnzoo.kernels.job import POOLS, Job
from attnzoo.kernels.launch_apply import Result
from attnzoo.kernels.shapes import MOST_IMAGES, dense

__all__ = [
    "gate_maps",
    "gate_maps_backward",
    "pixels",
    "pixels_backward",
    "planes",
    "planes_backward",
]


class _Whole(Job):
    """A map that one kernel goes over once: nothing is read again, so nothing is cut for it."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x, MOST_IMAGES)
        self.type = tl.float64 if self.dtype == torch.float64 else tl.float32

    def flat(self, gate: Tensor | None) -> Tensor | None:
        """A gate (N, C, 1, 1) or (N, 1, H, W) as (N, C) or (N, P), as wide as sums are."""
        return None if gate is None else gate.reshape(self.N, -1).to(self.dtype).contiguous()


def planes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means and maxima (N, C, 1, 1) of the dtype of x, and how many values have a maximum."""
    job = _Whole(x)
    tiles, deep, wide = job.grid_blocks(job.P, 4096)
    blocks, columns, rows = job.total_blocks(tiles)
    sums, tops = (job.empty(job.N, tiles, job.C) for _ in range(2))
    counts = job.empty(job.N, tiles, job.C, dtype=torch.int32)
    means, maxima = (job.empty(job.N, job.C, 1, 1, dtype=x.dtype) for _ in range(2))
    often = job.empty(job.N, job.C, dtype=torch.int32)
    for first, count in job.cuts():
        triton_planes.plane_tiles[(tiles * triton.cdiv(job.C, deep), count)](
            job.x, sums, None, tops, counts, first, job.C, job.P, tiles, *job.strides,
            BC=deep, BP=wide,
        )  # fmt: skip
        triton_planes.plane_totals[(blocks, count)](
            sums, None, tops, counts, means, None, maxima, often, first, job.C, job.P, tiles,
            SIZE=wide, BC=columns, BT=rows, ENERGY=0.0,
        )  # fmt: skip
    return means, maxima, often


def planes_backward(
    base: Tensor | None,
    of_means: Tensor,
    of_maxima: Tensor,
    x: Tensor,
    maxima: Tensor,
    often: Tensor,
) -> Tensor:
    """The gradient of x, `base` added to it."""
    job = _Whole(x)
    tiles, deep, wide = job.grid_blocks(job.P, 4096)
    dx = job.like_x(job.H, job.W)
    base = None if base is None else dense(base, job.format)
    gradients = (of_means.contiguous(), of_maxima.contiguous())
    for first, count in job.cuts():
        triton_planes.spread_planes[(tiles * triton.cdiv(job.C, deep), count)](
            job.x, base, *gradients, maxima, often, dx, first, job.C, job.P, tiles, *job.strides,
            BC=deep, BP=wide, DTYPE=job.type,
        )  # fmt: skip
    return dx


def pixels(x: Tensor, channel: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means and maxima (N, 2, H, W) of the dtype of x, and how many values have a maximum."""
    job = _Whole(x)
    tiles, deep, wide = job.column_blocks(2048)
    gate = job.flat(channel)
    statistics = job.empty(job.N, 2, job.H, job.W, dtype=x.dtype)
    often = job.empty(job.N, job.P, dtype=torch.int32)
    for first, count in job.cuts():
        triton_columns.pixels[(tiles, count)](
            job.x, gate, statistics, often, first, job.C, job.P, *job.strides,
            BC=deep, BP=wide, DTYPE=job.type,
        )  # fmt: skip
    return statistics, often


def pixels_backward(
    base: Tensor | None,
    g: Tensor,
    x: Tensor,
    channel: Tensor | None,
    statistics: Tensor,
    often: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, `base` added to it, and of the channel gate (empty without one)."""
    job = _Whole(x)
    tiles, deep, wide = job.grid_blocks(job.P, 2048)
    gate, g = job.flat(channel), g.contiguous()
    dx = job.like_x(job.H, job.W)
    base = None if base is None else dense(base, job.format)
    sums = None if channel is None else job.empty(job.N, tiles, job.C)
    for first, count in job.cuts():
        triton_columns.spread_pixels[(tiles * triton.cdiv(job.C, deep), count)](
            job.x, gate, base, g, statistics, often, dx, sums, first, job.C, job.P, tiles,
            *job.strides, BC=deep, BP=wide, DTYPE=job.type,
        )  # fmt: skip
    if channel is None or sums is None:
        return dx, job.empty(0)
    return dx, sums.sum(1).to(channel.dtype).view(channel.shape)


def gate_maps(
    x: Tensor,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    pool: str,
    ceil: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The map times its gates, softened by γ, then pooled; and where the maxima were."""
    job = _Whole(x)
    result = Result(job, pool, ceil, keep)
    gates = (job.flat(channel), job.flat(spatial))
    for first, count in job.cuts():
        result.apply(first, count, *gates, gamma)
    return result.y, result.codes


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
    job = _Whole(x)
    g = dense(g, job.format)
    out = (g.shape[2], g.shape[3])
    tiles, deep, wide = job.column_blocks(2048)
    dx, of_spatial = job.like_x(job.H, job.W), job.empty(job.N, job.P)
    wanted = channel is not None or gamma is not None
    by_gate = job.empty(job.N, tiles, job.C) if wanted else None
    by_one = job.empty(job.N, tiles, job.C) if gamma is not None else None
    gates = (job.flat(channel), job.flat(spatial))
    for first, count in job.cuts():
        triton_columns.spread_gates[(tiles, count)](
            job.x, g, codes if pool == "max" else None, *gates, gamma, dx, by_gate, by_one,
            of_spatial, first, job.C, job.P, job.H, job.W, *out, tiles, *job.strides,
            *job.strides_of(*out), BC=deep, BP=wide, POOL=POOLS[pool], DTYPE=job.type,
        )  # fmt: skip
    dchannel, dgamma = job.empty(0), job.empty(0)
    if by_gate is not None:
        total = by_gate.sum(1)
        if gamma is not None and by_one is not None:
            gated = total if gates[0] is None else gates[0] * total
            dgamma = (gated - by_one.sum(1)).sum(0).to(gamma.dtype)
            total = gamma.to(job.dtype) * total
        if channel is not None:
            dchannel = total.to(channel.dtype).view(channel.shape)
    return dx, dchannel, of_spatial.to(spatial.dtype).view(spatial.shape), dgamma
