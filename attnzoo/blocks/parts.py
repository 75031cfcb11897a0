"""Pieces that several attention blocks are made of."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.checks import check_int

__all__ = [
    "FLOOR",
    "LARGEST",
    "NEAR_UNIFORM",
    "ConvNorm",
    "Reduction",
    "batch_norm",
    "channel_groups",
    "draw_uniform",
    "group_norm",
    "hidden_channels",
    "pointwise",
    "saturate",
    "spread_sum",
    "wide",
]

Reduction = int | Literal["auto"]

#: Fewest hidden units of a ReLU layer before a gate, as in timm.
FLOOR = 8

#: Of a kernel, a span, a width that an option sets: no feature map needs more.
LARGEST = 2**12

#: Large weights are drawn so many values at a time, and written in parts that a core's cache holds.
_DRAWN, _PART = 2**15, 2**17

#: Scale of the last convolution before a sigmoid that should begin near ½ everywhere.
NEAR_UNIFORM = 0.1


def hidden_channels(owner: str, channels: int, reduction: Reduction, floor: int = 1) -> int:
    """Width of a bottleneck: `channels // reduction`, never less than `floor`.

    `"auto"` lets the width follow the channel count without ever shrinking as C grows: all of
    C up to 4 channels, a quarter up to 64, an eighth at 128 and 256, a sixteenth from 512 on
    (flat in between).

    A floor is there for ReLU layers: all units of a narrow one can easily be dead from the start,
    which makes the gate a constant that no image gives a gradient.

    Raises:
        OptionError: if `reduction` is neither an integer ≥ 1 nor `"auto"`, or `floor` is no
            integer ≥ 1.
    """
    check_int(owner, "channels", channels, minimum=1)
    least = check_int(owner, "floor", floor, minimum=1, maximum=LARGEST)
    if reduction == "auto":
        quarter, eighth, sixteenth = channels // 4, channels // 8, channels // 16
        return max(min(channels, 4), min(quarter, 16), min(eighth, 32), sixteenth, least)
    ratio = check_int(owner, "reduction", reduction, minimum=1, alternative="'auto'")
    return max(channels // ratio, least)


def channel_groups(owner: str, channels: int, groups: int, *, smallest: int = 1) -> int:
    """Number of equal groups: the largest divisor of `channels` up to `groups`.

    Where `smallest` is given, no group has fewer channels than that, except when `channels`
    itself is less: then there is one group.

    Raises:
        OptionError: if `groups` is not an integer ≥ 1.
    """
    check_int(owner, "channels", channels, minimum=1)
    limit = min(check_int(owner, "groups", groups, minimum=1), channels // smallest)
    return next((g for g in range(limit, 1, -1) if channels % g == 0), 1)


def wide(x: Tensor) -> Tensor:
    """`x` in float32 if it is of half precision, for sums of squares and for small steps."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def saturate(x: Tensor) -> Tensor:
    """`x` with float16 overflows at the largest float16, so that no later difference is NaN.

    Only float16 pays for it: bfloat16 has the range of float32.
    """
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(torch.float16).max
    return x.clamp(-largest, largest)


def spread_sum(x: Tensor, y: Tensor) -> Tensor:
    """`x + y` of maps that broadcast.

    Written as a difference, with the same numbers: a sum behind a convolution OpenCV's dnn 5.0
    takes for a residual one, and refuses the shapes.
    """
    return x - (-y)


def batch_norm(norm: nn.BatchNorm2d | nn.GroupNorm, x: Tensor) -> Tensor:
    """`norm(x)`, also where each channel has one value only, and where float16 overflowed.

    In training, a single value per channel has no variance, and BatchNorm raises: the running
    statistics serve instead, and stay as they are. A group norm that somebody has put in its place
    (opacus does) has none.
    """
    if isinstance(norm, nn.GroupNorm):
        return group_norm(norm, x)
    x = saturate(x)
    if norm.training and x.numel() == x.shape[1]:
        statistics = (norm.running_mean, norm.running_var)
        return F.batch_norm(x, *statistics, norm.weight, norm.bias, False, 0.0, norm.eps)
    return norm(x)


def group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """`norm(x)`, also where each group has one value only: it is normalised to zero.

    The module itself raises there, in eval mode too.
    """
    return torch.group_norm(saturate(x), norm.num_groups, norm.weight, norm.bias, norm.eps)


class ConvNorm(nn.Module):
    """A convolution and a BatchNorm, which takes single values and float16 overflows.

    The convolution has no bias: the BatchNorm would cancel it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(self.norm, self.conv(x))


@torch.no_grad()
def draw_uniform(weight: Tensor, bound: float) -> None:
    """Fill a contiguous `weight` with values between −bound and bound.

    `uniform_` draws a number for each value, which in a deep network takes longer than all the
    surgery. Of a large weight every 64 bits that are drawn make four values, each one of 65,536
    that lie evenly between the bounds.
    """
    flat = weight.view(-1)
    if len(flat) < _DRAWN:
        flat.uniform_(-bound, bound)
        return
    bits = torch.empty(_PART // 4, dtype=torch.int64, device=flat.device)
    for part in flat.split(_PART):
        drawn = bits[: math.ceil(len(part) / _DRAWN) * (_DRAWN // 4)]
        drawn.random_(torch.iinfo(torch.int64).min, None)  # all of them
        values = part if part.dtype == torch.float32 else part.float()
        # Half a step more is symmetric about zero.
        values.copy_(drawn.view(torch.int16)[: len(part)]).add_(0.5).mul_(bound / 2**15)
        if values is not part:
            part.copy_(values)


@functools.cache
def _narrowest() -> dict[str, Any]:
    """All that a 1×1 convolution holds."""
    return vars(nn.Conv2d(1, 1, 1, device="meta"))


def pointwise(in_channels: int, out_channels: int, *, scale: float = 1.0) -> nn.Conv2d:
    """A 1×1 convolution with (uniform) Kaiming weights times `scale` and a zero bias."""
    # A deep network gets hundreds. PyTorch takes three times as long to make one, and would draw
    # weights of its own; beside widths and tensors, any two hold the same.
    conv = nn.Conv2d.__new__(nn.Conv2d)
    state = vars(conv)
    for name, value in _narrowest().items():
        state[name] = value.copy() if isinstance(value, dict | set) else value
    state["in_channels"], state["out_channels"] = in_channels, out_channels
    state["_parameters"]["weight"] = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
    state["_parameters"]["bias"] = nn.Parameter(torch.zeros(out_channels))
    draw_uniform(conv.weight, scale * math.sqrt(6 / in_channels))
    return conv
