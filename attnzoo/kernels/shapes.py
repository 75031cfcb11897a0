"""What the fused kernels are asked to do, and how the work is cut into launches and blocks.

Shapes: x (N, C, H, W), P = H·W.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "KINDS",
    "MOST_IMAGES",
    "Kind",
    "dense",
    "images_per_cut",
    "memory_format",
    "pooled_fakes",
    "pooled_size",
    "power_of_two",
    "strides",
    "tiling",
    "wide_dtype",
]

#: Part of the L2 cache that the map of one cut may fill; the rest is for what is written.
L2_SHARE = 0.4
#: A grid has at most 65,535 programs along its second axis.
MOST_IMAGES = 65535


@dataclass(frozen=True)
class Kind:
    """Which gates a block has, and where their weights are in the list of weights.

    channel: 4 weights of a perceptron (w1, b1, w2, b2), or 1 of a convolution across channels.
    spatial: 4 of a 1×1 perceptron, 2 of one 1×1 convolution, or none.
    add: whether the two gates are added; else they are multiplied.
    """

    channel: int
    spatial: int = 0
    add: bool = False


KINDS = {
    "local": Kind(channel=4, spatial=4),
    "scse": Kind(channel=4, spatial=2, add=True),
    "se": Kind(channel=4),
    "eca": Kind(channel=1),
}


@dataclass(frozen=True)
class Tiling:
    """Pixels, channels and hidden units of one program, and its warps.

    slice: hidden units where a program need not have all of them at once.
    """

    pixels: int
    channels: int
    hidden: int
    slice: int
    warps: int


def power_of_two(number: int, *, least: int = 1, most: int = 1 << 20) -> int:
    """The smallest power of two that is not below `number`, kept between two others."""
    return min(max(1 << (number - 1).bit_length(), least), most)


def tiling(channels: int, pixels: int, hidden: int, itemsize: int) -> Tiling:
    """Blocks of the kernels that multiply by w1: (hidden, channels) times (channels, pixels)."""
    rows = power_of_two(hidden, least=16)
    wide = 128 if rows <= 32 else max(16, min(64, 16384 // rows))
    # A hidden layer this wide has most of the registers, and its weights most of the memory.
    deep = 64 if rows <= 128 else 32 if rows <= 256 else 16
    return Tiling(
        pixels=power_of_two(pixels, least=16, most=wide),
        channels=power_of_two(channels, least=16, most=deep if itemsize <= 2 else min(deep, 32)),
        hidden=rows,
        slice=min(rows, 64 if itemsize <= 2 else 16),
        warps=8,
    )


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What gates and sums are in: float64 for float64, else float32."""
    return torch.promote_types(dtype, torch.float32)


def memory_format(x: Tensor) -> torch.memory_format:
    """The format that the strides of x say, also where they are not dense."""
    last = not x.is_contiguous() and (
        x.is_contiguous(memory_format=torch.channels_last) or x.stride(1) == 1
    )
    return torch.channels_last if last else torch.contiguous_format


def dense(x: Tensor, wanted: torch.memory_format) -> Tensor:
    """The map without gaps, in that format; itself if it is."""
    return x.contiguous(memory_format=wanted)


def strides(channels: int, pixels: int, wanted: torch.memory_format) -> tuple[int, int, int]:
    """Of images, channels and pixels in a dense map."""
    last = wanted == torch.channels_last
    return channels * pixels, 1 if last else pixels, channels if last else 1


def pooled_size(height: int, width: int, pool: str, ceil: bool) -> tuple[int, int]:
    """Height and width after no pool (`""`), or a 2×2 one of stride 2."""
    if not pool:
        return height, width
    more = int(ceil)
    return (height + more) // 2, (width + more) // 2


def pooled_fakes(x: Tensor, pool: str, ceil: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """What the kernels return for x and a pool, without values: the map, and its codes if kept."""
    size, layout = (*x.shape[:2], *pooled_size(*x.shape[2:], pool, ceil)), memory_format(x)
    y = x.new_empty(size).contiguous(memory_format=layout)
    if not keep or pool != "max":
        return y, x.new_empty(0, dtype=torch.uint8)
    return y, x.new_empty(size, dtype=torch.uint8).contiguous(memory_format=layout)


def images_per_cut(x: Tensor) -> int:
    """How many images the second read of which can come from the L2 cache, at least one."""
    image = x.shape[1] * x.shape[2] * x.shape[3] * x.element_size()
    if not x.is_cuda:
        return x.shape[0]
    cache = torch.cuda.get_device_properties(x.device).L2_cache_size
    return min(max(1, int(L2_SHARE * cache) // image), MOST_IMAGES)
