"""Runs the kernels on tensors: the forward and the backward pass of gated maps.

Imports triton, so it is itself imported by the first fused call only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from attnzoo.kernels import triton_backward, triton_forward
from attnzoo.kernels.job import POOLS, Job
from attnzoo.kernels.launch_apply import Result
from attnzoo.kernels.shapes import KINDS, dense, power_of_two, tiling

__all__ = ["backward", "forward"]

#: Programs that share out the sum over pixels for the gradient of a spatial gate's weights.
SPLITS = 512
INTERPRETED = not isinstance(triton_forward.apply, triton.runtime.JITFunction)


class _Gated(Job):
    """The sizes that both passes share, and the weights by what they are for."""

    def __init__(self, x: Tensor, weights: Sequence[Tensor], kind: str, images: int) -> None:
        super().__init__(x, images)
        self.kind = KINDS[kind]
        # Triton's interpreter multiplies bfloat16 as if it were integers.
        self.widen = INTERPRETED or x.element_size() > 2
        weights = [weight.contiguous() for weight in weights]
        self.channel = weights[: self.kind.channel]
        self.spatial = [*weights[self.kind.channel :], *[None] * 4][:4]
        self.units = self.spatial[0].shape[0] if self.spatial[0] is not None else 1
        self.tiling = tiling(self.C, self.P, self.units, x.element_size())
        self.tiles = triton.cdiv(self.P, self.tiling.pixels)

    @property
    def perceptron(self) -> list[Tensor | None]:
        """w1, b1, w2, b2 of the channel gate, all None where it is not a perceptron."""
        return [*self.channel] if self.kind.channel == 4 else [None] * 4

    @property
    def mlp_units(self) -> int:
        return self.channel[0].shape[0] if self.kind.channel == 4 else 1

    @property
    def mlp_blocks(self) -> dict[str, int]:
        """Blocks of the kernels that run once an image."""
        rows = power_of_two(self.mlp_units)
        columns = power_of_two(self.C, most=max(1, min(64, 8192 // rows)))
        return {
            "BH": rows,
            "BC": columns,
            "BT": power_of_two(self.tiles, most=128),
            "num_warps": 8,
        }


def forward(
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    kind: str,
    pool: str,
    ceil: bool,
    images: int,
    keep: bool,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The attended (and pooled) map, and what the backward pass needs; see `operators.gated`."""
    job = _Gated(x, weights, kind, images)
    result = Result(job, pool, ceil, keep)
    sums = job.empty(job.N, job.tiles, job.C)
    means, channel = job.empty(job.N, job.C), job.empty(job.N, job.C)
    spatial = job.empty(job.N, job.P) if job.kind.spatial else None
    blocks = job.tiling
    for first, count in job.cuts():
        triton_forward.statistics[(job.tiles, count)](
            job.x, *job.spatial, sums, spatial, first, job.C, job.units, job.P, job.tiles,
            *job.strides, BH=blocks.hidden, BC=blocks.channels, BP=blocks.pixels, WIDE=job.widen,
            num_warps=blocks.warps,
        )  # fmt: skip
        triton_forward.channel_gate[(count,)](
            sums, *job.perceptron, means, channel, first, job.C, job.mlp_units, job.P, job.tiles,
            **job.mlp_blocks,
        )  # fmt: skip
        if job.kind.channel == 1:
            now = slice(first, first + count)
            channel[now] = _across_channels(means[now], job.channel[0]).sigmoid()
        if scale != 1.0:
            channel[first : first + count].mul_(scale)
        result.apply(first, count, channel, spatial, gamma, add=job.kind.add)
    spatial = job.empty(0) if spatial is None else spatial
    return result.y, means, channel, spatial, result.codes


def backward(
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
    images: int,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x, of γ (empty without one) and of the weights."""
    job = _Gated(x, weights, kind, images)
    g = dense(g, job.format)
    out = (g.shape[2], g.shape[3])
    s = spatial if job.kind.spatial else None
    places = codes if pool == "max" else None
    blocks, units = job.tiling, job.mlp_units
    w1, b1, w2, _ = job.spatial
    parts = (job.N, job.tiles, job.units)
    by_gate = job.empty(job.N, job.tiles, job.C)
    by_one = job.empty(*by_gate.shape) if gamma is not None else None
    # One cut's alone, so that it stays in the cache.
    images = min(job.images, job.N)
    du = job.empty(images, job.units, job.P, dtype=x.dtype) if s is not None else None
    dw2, db1 = (job.empty(*parts), job.empty(*parts)) if w2 is not None else (None, None)
    db2 = job.empty(*parts[:2]) if s is not None else None
    logit, shift, dgamma = (job.empty(job.N, job.C) for _ in range(3))
    unit, active = job.empty(job.N, units), job.empty(job.N, units)
    columns = triton.cdiv(job.C, blocks.channels)
    most = -(-SPLITS // columns)
    cuts = list(job.cuts())
    splits = [min(most, count * job.tiles) for _, count in cuts]
    dw1 = job.empty(sum(splits), job.units, job.C) if s is not None else None
    dx = job.like_x(job.H, job.W)
    pooled = (job.P, job.H, job.W, *out, job.tiles, *job.strides, *job.strides_of(*out))
    options = {"ADD": job.kind.add, "POOL": POOLS[pool], "WIDE": job.widen}
    options |= {"BC": blocks.channels, "BP": blocks.pixels, "num_warps": blocks.warps}
    largest = torch.finfo(x.dtype).max if x.dtype == torch.float16 else 0.0
    row = 0
    for (first, count), split in zip(cuts, splits, strict=True):
        triton_backward.sums[(job.tiles, count)](
            job.x, g, places, channel, s, gamma, w1, b1, w2, by_gate, by_one, du, dw2, db1, db2,
            first, job.C, job.units, *pooled, LARGEST=largest, BH=blocks.hidden, **options,
        )  # fmt: skip
        triton_backward.gate_sums[(count,)](
            by_gate, by_one, means, channel, gamma, *job.perceptron[:3], logit, unit, active,
            shift, dgamma, first, job.C, units, job.P, job.tiles,
            ADD=job.kind.add, SCALE=scale, **job.mlp_blocks,
        )  # fmt: skip
        if job.kind.channel == 1:
            now = slice(first, first + count)
            shift[now] = _across_channels(logit[now], job.channel[0].flip(2)) / job.P
        if s is not None:
            triton_backward.weight_sums[(columns, split, triton.cdiv(job.units, blocks.slice))](
                job.x, du, dw1, first, count, row, split, job.C, job.units, job.P, job.tiles,
                *job.strides, BH=blocks.slice, BC=blocks.channels, BP=blocks.pixels,
                WIDE=job.widen,
            )  # fmt: skip
        triton_backward.spread[(job.tiles * columns, count)](
            g, places, channel, s, gamma, w1, du, shift, dx, first, job.C, job.units, *pooled,
            BH=blocks.slice, **options,
        )  # fmt: skip
        row += split
    if job.kind.channel == 4:
        of_w2 = _over_images(active, logit).t().contiguous()
        grads = [_over_images(unit, means), unit.sum(0), of_w2, logit.sum(0)]
    else:
        grads = [_kernel_gradient(logit, means, job.channel[0].shape[2])]
    if dw1 is not None and db2 is not None:
        grads.append(dw1.sum(0))
        if dw2 is not None and db1 is not None:
            grads += [db1.sum((0, 1)), dw2.sum((0, 1))]
        grads.append(db2.sum().view(1))
    shaped = [
        grad.reshape(weight.shape).to(weight.dtype)
        for grad, weight in zip(grads, weights, strict=True)
    ]
    return dx, job.empty(0) if gamma is None else dgamma.sum(0).to(gamma.dtype), shaped


def _over_images(one: Tensor, other: Tensor) -> Tensor:
    """(N, A) and (N, B) → Σ over images, (A, B).

    Not by cuBLAS, which refuses where deterministic algorithms are asked for, or rounds to TF32.
    """
    images, rows, columns = *one.shape, other.shape[1]
    total = one.new_empty(1, rows, columns)
    wide, deep = power_of_two(columns, least=16, most=64), power_of_two(rows, least=16, most=16)
    triton_backward.weight_sums[(triton.cdiv(columns, wide), 1, triton.cdiv(rows, deep))](
        other, one.t().contiguous(), total, 0, 1, 0, 1, columns, rows, images,
        triton.cdiv(images, 16), 0, 1, columns, BH=deep, BC=wide, BP=16, WIDE=True,
    )  # fmt: skip
    return total[0]


def _across_channels(values: Tensor, kernel: Tensor) -> Tensor:
    """(N, C), and a kernel (1, 1, k) that slides over the channels."""
    padding = kernel.shape[2] // 2
    return F.conv1d(values[:, None], kernel.to(values.dtype), padding=padding)[:, 0]


def _kernel_gradient(logit: Tensor, means: Tensor, size: int) -> Tensor:
    """Of that kernel: how each shift of the means goes with the gradient of the logits."""
    windows = F.pad(means, (size // 2, size // 2)).unfold(1, size, 1)  # (N, C, k)
    return (logit[:, :, None] * windows).sum((0, 1))
