"""Triplet attention: a gate over each pair of axes, from mean and maximum over the third.

Source: D. Misra, T. Nalamada, A. U. Arasanipalai, Q. Hou, "Rotate to Attend: Convolutional Triplet
Attention Module", WACV 2021, arXiv 2010.03045.
Shapes: x and gate (N, C, H, W); branch gates (N, 1, H, W), (N, C, 1, W), (N, C, H, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import LARGEST, batch_norm
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["TripletAttention"]


class PlaneGate(nn.Module):
    """x (N, C, H, W) → gate over the two axes that are not `axis`, which becomes 1."""

    def __init__(self, axis: int, kernel_size: int) -> None:
        super().__init__()
        self.axis = axis
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        # Pooling along the axis itself spares the paper's rotation, which would copy the map.
        mean, maximum = kernels.mean_and_maximum(x, (self.axis,))
        pooled = torch.stack([maximum, mean], dim=1).squeeze(self.axis + 1)
        gate = torch.sigmoid(batch_norm(self.norm, kernels.into_one_map(self.conv, pooled)))
        return gate.squeeze(1).unsqueeze(self.axis)


def mean_of_three(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return (first + second).add_(third).div_(3)


class TripletGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, the mean of the three branches."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.height_width = PlaneGate(1, kernel_size)
        self.channel_width = PlaneGate(2, kernel_size)
        self.channel_height = PlaneGate(3, kernel_size)

    def how(self) -> Callable[..., Tensor]:
        return mean_of_three

    def parts(self, x: Tensor) -> list[Tensor]:
        branches = (self.height_width, self.channel_width, self.channel_height)
        return [branch(x) for branch in branches]


@register_block(
    "triplet",
    kind="both",
    title="Triplet attention",
    paper="Misra, Nalamada, Arasanipalai, Hou: Rotate to Attend (WACV 2021)",
    year=2021,
    arxiv="2010.03045",
    maps={"gate": "both"},
    neutral=True,
)
class TripletAttention(GatedByMap):
    """Mean of three gates, over (H, W), (C, W) and (C, H).

        branch(axis) = σ(bn(conv_k×k([maximum of x over axis; mean of x over axis])))
        gate = (branch(C) + branch(H) + branch(W)) / 3     (N, C, H, W)
        y = x · gate

    The paper multiplies x by each branch and averages the three products, which is the same. The
    convolutions have no bias; each is followed by a BatchNorm of momentum 0.01, as in the
    authors' code, whose kernel over (C, H) is the transpose of the one here. In training, one
    single value (N = C = W = 1, for instance) is normalised with the running statistics. Weights
    have PyTorch's default initialisation.

    Parameters: 6·k² + 6.
    MACs: 2·k²·(H·W + C·W + C·H).

    Args:
        channels: C, at least 1.
        kernel_size: k, an odd integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import TripletAttention
        >>> TripletAttention(64, kernel_size=7)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("gate.height_width.norm", "gate.channel_width.norm", "gate.channel_height.norm")

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        check_int("TripletAttention", "channels", channels, minimum=1)
        check_int(
            "TripletAttention", "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True
        )
        self.gate = TripletGate(kernel_size)
