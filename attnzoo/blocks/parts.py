"""Pieces that several attention blocks are made of."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from attnzoo.checks import check_int

__all__ = ["NEAR_UNIFORM", "Reduction", "hidden_channels", "pointwise"]

Reduction = int | Literal["auto"]

#: Scale of the last convolution before a sigmoid that should begin near ½ everywhere.
NEAR_UNIFORM = 0.1


def hidden_channels(owner: str, channels: int, reduction: Reduction) -> int:
    """Width of a bottleneck: `channels // reduction`, never less than 1.

    `"auto"` lets the width follow the channel count without ever shrinking as C grows: all of
    C up to 4 channels, a quarter up to 64, an eighth at 128 and 256, a sixteenth from 512 on
    (flat in between). Its floor of 4 is there because all units of a narrower ReLU layer can
    easily be dead from the start, which makes the gate a constant.

    Raises:
        OptionError: if `reduction` is neither an integer ≥ 1 nor `"auto"`.
    """
    check_int(owner, "channels", channels, minimum=1)
    if reduction == "auto":
        quarter, eighth, sixteenth = channels // 4, channels // 8, channels // 16
        return max(min(channels, 4), min(quarter, 16), min(eighth, 32), sixteenth)
    ratio = check_int(owner, "reduction", reduction, minimum=1, alternative="'auto'")
    return max(channels // ratio, 1)


class _Uninitialised(nn.Conv2d):
    def reset_parameters(self) -> None:
        """Leave the weights to the caller."""


def pointwise(in_channels: int, out_channels: int, *, scale: float = 1.0) -> nn.Conv2d:
    """A 1×1 convolution with (uniform) Kaiming weights times `scale` and a zero bias."""
    # Overwriting PyTorch's own initialisation would, on a deep network, take longer than all the
    # surgery; what is returned is a plain Conv2d, which quantisers look for by exact type.
    conv = _Uninitialised(in_channels, out_channels, 1)
    conv.__class__ = nn.Conv2d
    bound = scale * math.sqrt(6 / in_channels)
    nn.init.uniform_(conv.weight, -bound, bound)
    if conv.bias is not None:  # always; a type checker cannot know
        nn.init.zeros_(conv.bias)
    return conv
