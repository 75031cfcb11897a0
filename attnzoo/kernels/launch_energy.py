"""Runs the kernels of SimAM on tensors, forward and backward.

Imports triton, so it is itself imported by the first fused call only.
"""

from __future__ import annotations

import triton
from torch import Tensor

from attnzoo.kernels import triton_energy, triton_planes
from attnzoo.kernels.job import POOLS, Job
from attnzoo.kernels.launch_apply import Result
from attnzoo.kernels.shapes import dense

__all__ = ["backward", "forward"]


def forward(
    x: Tensor,
    gamma: Tensor | None,
    e_lambda: float,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The attended (and pooled) map, and what the backward pass needs; see `energy.energy`."""
    job = Job(x, images)
    result = Result(job, pool, ceil, keep)
    tiles, deep, wide = job.grid_blocks(job.P, 4096)
    programs = tiles * triton.cdiv(job.C, deep)
    blocks, columns, rows = job.total_blocks(tiles)
    sums, squares = (job.empty(job.N, tiles, job.C) for _ in range(2))
    means, scales = (job.empty(job.N, job.C) for _ in range(2))
    for first, count in job.cuts():
        triton_planes.plane_tiles[(programs, count)](
            job.x, sums, squares, None, None, first, job.C, job.P, tiles, *job.strides,
            BC=deep, BP=wide,
        )  # fmt: skip
        triton_planes.plane_totals[(blocks, count)](
            sums, squares, None, None, means, scales, None, None, first, job.C, job.P, tiles,
            SIZE=wide, BC=columns, BT=rows, ENERGY=e_lambda,
        )  # fmt: skip
        result.apply(first, count, means, None, gamma, scale=scales)
    return result.y, means, scales, result.codes


def backward(
    g: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    means: Tensor,
    scales: Tensor,
    codes: Tensor,
    pool: str,
    images: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of γ (empty without one)."""
    job = Job(x, images)
    g = dense(g, job.format)
    out = (g.shape[2], g.shape[3])
    tiles, deep, wide = job.grid_blocks(job.P, 2048)
    programs = tiles * triton.cdiv(job.C, deep)
    blocks, columns, rows = job.total_blocks(tiles)
    by_one, by_two = (job.empty(job.N, tiles, job.C) for _ in range(2))
    by_gamma = None if gamma is None else job.empty(*by_one.shape)
    shift, slope, dgamma = (job.empty(job.N, job.C) for _ in range(3))
    dx = job.like_x(job.H, job.W)
    given = (job.x, g, codes if pool == "max" else None, means, scales, gamma)
    for first, count in job.cuts():
        sizes = (first, job.C, job.P, job.H, job.W, *out, tiles, *job.strides,
                 *job.strides_of(*out))  # fmt: skip
        options = {"BC": deep, "BP": wide, "POOL": POOLS[pool]}
        triton_energy.energy_sums[(programs, count)](
            *given, by_one, by_two, by_gamma, *sizes, **options
        )
        triton_energy.energy_totals[(blocks, count)](
            by_one, by_two, by_gamma, scales, shift, slope, dgamma, first, job.C, job.P, tiles,
            BC=columns, BT=rows,
        )  # fmt: skip
        triton_energy.energy_spread[(programs, count)](*given, shift, slope, dx, *sizes, **options)
    return dx, job.empty(0) if gamma is None else dgamma.sum(0).to(gamma.dtype)
