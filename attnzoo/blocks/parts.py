"""Pieces that several attention blocks are made of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from attnzoo.checks import check_int
from attnzoo.errors import OptionError

__all__ = ["Reduction", "hidden_channels", "init_gate"]

Reduction = int | Literal["auto"]


def hidden_channels(owner: str, channels: int, reduction: Reduction) -> int:
    """Width of a bottleneck: `channels // reduction`, never less than 1.

    `"auto"` lets the width follow the channel count: reduction 4 up to 64 channels, 8 up to
    256, 16 beyond; and at least 4 hidden units (or `channels`, if fewer).

    Raises:
        OptionError: if `reduction` is neither an integer ≥ 1 nor `"auto"`.
    """
    check_int(owner, "channels", channels, minimum=1)
    if reduction == "auto":
        ratio = 4 if channels <= 64 else 8 if channels <= 256 else 16
        return max(channels // ratio, min(channels, 4))
    if isinstance(reduction, str):
        raise OptionError(f"{owner}: reduction={reduction!r} must be an integer ≥ 1 or 'auto'.")
    return max(channels // check_int(owner, "reduction", reduction, minimum=1), 1)


def init_gate(branch: nn.Sequential, last_scale: float = 0.1) -> None:
    """Kaiming weights and zero biases; the last convolution scaled by `last_scale`.

    With a small last convolution the sigmoid after it sits near ½ everywhere: attention starts
    near uniform.
    """
    layers = [m for m in branch if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layers[-1].weight.mul_(last_scale)
