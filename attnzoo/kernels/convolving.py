"""Small convolutions of gates, in shapes that a CPU is faster at.

Convolutions compute 8 or 16 output channels at a time there, also where there is only one. In
`into_one_map` the rows of the kernel are output channels: their maps, each moved by its row, add up
to the result. And they go image by image, with one product for each, also where images have one
pixel. In `through_pixels` the images are the pixels of a single one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.kernels.dispatch import is_recorded, is_watched
from attnzoo.kernels.recompute import learning

__all__ = ["into_one_map", "through_pixels"]

#: Pixels of a map from which on it is faster.
_LEAST = 400


def into_one_map(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)`: x (N, c, H, W) → (N, 1, H, W)."""
    if not _goes_by_rows(conv, x):
        return conv(x)
    side = conv.kernel_size[0] // 2
    rows = conv.weight[0].transpose(0, 1).unsqueeze(2)  # (k, c, 1, k)
    maps = F.conv2d(x, rows, padding=side)  # (N, k, H + 2·side, W)
    image, row, line, value = maps.stride()
    size = (len(x), len(rows), *x.shape[2:])
    return maps.as_strided(size, (image, row + line, line, value)).sum(1, keepdim=True)


def through_pixels(layers: nn.Sequential, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
    """1×1 convolutions and ReLUs on each of the vectors (N, C, 1, 1), in one call."""
    first = vectors[0]
    plain = all(
        type(layer) is nn.ReLU
        or (
            type(layer) is nn.Conv2d
            and layer.kernel_size == layer.stride == (1, 1)
            and layer.padding == (0, 0)
        )
        for layer in layers
    )
    if (
        is_recorded(*vectors)
        or not (plain and first.is_cpu)
        or any(map(is_watched, [layers, *layers]))
    ):
        return [layers(vector) for vector in vectors]
    pixels = torch.cat(list(vectors)).transpose(0, 2)  # (1, C, several N, 1)
    return layers(pixels).transpose(0, 2).split(len(first))


def _goes_by_rows(conv: nn.Conv2d, x: Tensor) -> bool:
    """In inference, where the layer is as it was built and nobody watches or counts."""
    if is_recorded(x) or type(conv) is not nn.Conv2d or is_watched(conv):
        return False
    weight, side = conv.weight, conv.kernel_size[0] // 2
    return (
        x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and x.shape[2] * x.shape[3] >= _LEAST
        and weight.shape[2] == weight.shape[3] == 2 * side + 1 > 1
        and conv.padding == (side, side)
        and (conv.out_channels, conv.groups, conv.padding_mode) == (1, 1, "zeros")
        and conv.stride == conv.dilation == (1, 1)
        and conv.bias is None
        and "forward" not in vars(conv)
        and conv._compiled_call_impl is None
        and not learning(x, weight)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
    )
