"""Runs the kernel that writes a map times its gates, with the 2×2 pool behind it or without."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from attnzoo.kernels import triton_forward
from attnzoo.kernels.job import Job
from attnzoo.kernels.shapes import pooled_size

__all__ = ["Result"]


class Result:
    """What is written for a map: `y`, and where each of its maxima was, if that is to be kept."""

    def __init__(self, job: Job, pool: str, ceil: bool, keep: bool) -> None:
        self.job, self.pool = job, pool
        self.size = pooled_size(job.H, job.W, pool, ceil)
        self.y = job.like_x(*self.size)
        self._codes = job.like_x(*self.size, torch.uint8) if keep and pool == "max" else None

    @property
    def codes(self) -> Tensor:
        """Shaped as y, uint8; empty where there is none."""
        return self.job.empty(0, dtype=torch.uint8) if self._codes is None else self._codes

    def apply(
        self,
        first: int,
        count: int,
        channel: Tensor | None,
        spatial: Tensor | None,
        gamma: Tensor | None,
        *,
        scale: Tensor | None = None,
        add: bool = False,
    ) -> None:
        """Write so many images; the gates are those of `triton_forward.gate_of`."""
        job, size = self.job, self.size
        tiles, deep, wide = job.grid_blocks(size[0] * size[1], 1024 if self.pool else 4096)
        grid = (tiles * triton.cdiv(job.C, deep), count)
        given = (job.x, channel, spatial, scale, gamma, self.y)
        if self.pool:
            triton_forward.apply_pool[grid](
                *given, self._codes, first, job.C, job.P, job.H, job.W, *size, tiles, *job.strides,
                *job.strides_of(*size), BC=deep, BP=wide, ADD=add, MAX=self.pool == "max",
            )  # fmt: skip
        else:
            triton_forward.apply[grid](
                *given, first, job.C, job.P, tiles, *job.strides, BC=deep, BP=wide, ADD=add
            )
