"""Pieces that several attention blocks are made of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from attnzoo.checks import check_int

__all__ = ["Reduction", "hidden_channels", "init_gate"]

Reduction = int | Literal["auto"]


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
