"""One map and how kernels go over it: sizes, strides, cuts, and new tensors beside it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from attnzoo.kernels.shapes import (
    dense,
    images_per_cut,
    memory_format,
    power_of_two,
    strides,
    wide_dtype,
)

__all__ = ["POOLS", "Job"]

#: What the kernels that take a gradient back through a pool call it.
POOLS = {"": 0, "max": 1, "mean": 2}


class Job:
    """A map (N, C, H, W) without gaps, and what all its launches share.

    Args:
        x: the map, in any strides.
        images: how many are done at a time; 0 for as many as fit the device's L2 cache.
    """

    def __init__(self, x: Tensor, images: int) -> None:
        self.N, self.C, self.H, self.W = x.shape
        self.P = self.H * self.W
        self.format = memory_format(x)
        self.x = dense(x, self.format)
        self.dtype = wide_dtype(x.dtype)
        self.images = images or images_per_cut(x)
        self.strides = strides(self.C, self.P, self.format)

    def cuts(self) -> Iterator[tuple[int, int]]:
        """`(first image, how many)` of each."""
        for first in range(0, self.N, self.images):
            yield first, min(self.images, self.N - first)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.x.device)

    def like_x(self, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(
            (self.N, self.C, height, width),
            dtype=dtype or self.x.dtype,
            device=self.x.device,
            memory_format=self.format,
        )

    def strides_of(self, height: int, width: int) -> tuple[int, int, int]:
        """Of images, channels and pixels in a map of that size, in the format of x."""
        return strides(self.C, height * width, self.format)

    def grid_blocks(self, pixels: int, values: int) -> tuple[int, int, int]:
        """Tiles of pixels, and the blocks of channels and pixels, where neither is summed over."""
        last = self.format == torch.channels_last
        return self._blocks(pixels, values // 64 if last else 256, values)

    def column_blocks(self, values: int) -> tuple[int, int, int]:
        """The same where each program goes over all channels: fewer pixels, more programs."""
        return self._blocks(self.P, 16 if self.format == torch.channels_last else 64, values)

    def total_blocks(self, tiles: int) -> tuple[int, int, int]:
        """Blocks of channels, their size, and tiles at a time, to add up what tiles left."""
        deep = power_of_two(self.C, most=64)
        return -(-self.C // deep), deep, power_of_two(tiles, most=32)

    def _blocks(self, pixels: int, most: int, values: int) -> tuple[int, int, int]:
        wide = power_of_two(pixels, most=most)
        return -(-pixels // wide), power_of_two(self.C, most=max(1, values // wide)), wide
