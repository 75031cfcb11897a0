"""Linear Context Transform: channel means, normalised within groups, one linear map per channel.

Source: D. Ruan, J. Wen, N. Zheng, M. Zheng, "Linear Context Transform Block", AAAI 2020,
arXiv 1909.03834.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import channel_groups, group_norm
from attnzoo.registry import register_block

__all__ = ["LinearContextTransform"]

SMALLEST_GROUP = 4  # as 64 groups of the 256 channels of ResNet-50's first stage


class LinearContextGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.ones_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(group_norm(self.norm, kernels.mean(x, [2, 3]))).to(x.dtype)


@register_block(
    "lct",
    kind="channel",
    title="Linear Context Transform",
    paper="Ruan, Wen, Zheng, Zheng: Linear Context Transform Block (AAAI 2020)",
    year=2020,
    arxiv="1909.03834",
    maps={"gate": "channel"},
    neutral=True,
)
class LinearContextTransform(Gated):
    """Channel gate from channel means that are normalised within groups of channels.

        z = mean of x over H, W                        (N, C)
        v = (z − μ) / √(σ² + ε)                        μ, σ² over the channels of each group
        gate = sigmoid(w · v + b)                      (N, C, 1, 1)
        y = x · gate

    w and b are one number per channel and start at 0 and 1, so every gate starts at 0.73. The
    number of groups is the largest divisor of C up to G that leaves 4 channels in a group, as many
    as 256 channels in 64 groups have: the mean of one channel normalises to zero, those of two to
    ±1, whatever they are. Below 4 channels there is one group, and with C = 1 the gate is
    constant.

    Parameters: 2·C.
    MACs: 0.

    Args:
        channels: C, at least 1.
        groups: G, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LinearContextTransform
        >>> block = LinearContextTransform(96, groups=64)
        >>> block.gate.norm.num_groups, block(torch.randn(2, 96, 14, 14)).shape
        (24, torch.Size([2, 96, 14, 14]))
    """

    last_layers = ("gate.norm",)

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        count = channel_groups("LinearContextTransform", channels, groups, smallest=SMALLEST_GROUP)
        self.gate = LinearContextGate(channels, count)

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]
