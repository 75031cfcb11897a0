"""Efficient Channel Attention: a channel gate from a 1-D convolution across channels.

Source: Q. Wang, B. Wu, P. Zhu, P. Li, W. Zuo, Q. Hu, "ECA-Net: Efficient Channel Attention for
Deep Convolutional Neural Networks", CVPR 2020, arXiv 1910.03151.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import LARGEST
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["EfficientChannelAttention"]

# The paper's mapping from channels to kernel size (its equation 12, constants of section 4).
_GAMMA, _B = 2, 1


def adaptive_kernel_size(channels: int) -> int:
    """The odd number nearest to (log₂ C + b) / γ, ties upwards; at least 3."""
    nearest = int((math.log2(channels) + _B) / _GAMMA)
    return max(nearest if nearest % 2 else nearest + 1, 3)


class EcaGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (N, 1, C): the channels are the sequence
        means = kernels.mean(x, [2, 3], keepdim=False).unsqueeze(1)
        return torch.sigmoid(self.conv(means)).transpose(1, 2).unsqueeze(-1)


@register_block(
    "eca",
    kind="channel",
    title="Efficient Channel Attention",
    paper="Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net (CVPR 2020)",
    year=2020,
    arxiv="1910.03151",
    maps={"gate": "channel"},
    neutral=True,
)
class EfficientChannelAttention(Gated):
    """Channel gate from a 1-D convolution over neighbouring channels, without a bottleneck.

        gate = σ(conv1d_k(mean of x over H, W))     (N, C, 1, 1), zero padding, no bias
        y = x · gate

    With `kernel_size="auto"`, k is the odd number nearest to (log₂ C + 1) / 2, as in the paper,
    and at least 3, as in `timm.layers.EcaModule(channels)`: below 8 channels the paper's formula
    gives k = 1, which lets no channel see another. The convolution keeps PyTorch's default
    initialisation, as the authors' code does.

    Parameters: k.
    MACs: C·k.

    Args:
        channels: C, at least 1.
        kernel_size: k, an odd integer ≥ 1, or `"auto"`.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import EfficientChannelAttention
        >>> block = EfficientChannelAttention(256)
        >>> block.gate.conv.kernel_size, block(torch.randn(2, 256, 7, 7)).shape
        ((5,), torch.Size([2, 256, 7, 7]))
    """

    last_layers = ("gate.conv",)
    kind = "eca"

    def __init__(self, channels: int, kernel_size: int | Literal["auto"] = "auto") -> None:
        super().__init__()
        owner = "EfficientChannelAttention"
        check_int(owner, "channels", channels, minimum=1)
        if kernel_size == "auto":
            size = adaptive_kernel_size(channels)
        else:
            size = check_int(
                owner,
                "kernel_size",
                kernel_size,
                minimum=1,
                maximum=LARGEST,
                odd=True,
                alternative="'auto'",
            )
        self.gate = EcaGate(size)

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]

    def layers(self) -> tuple[Any, ...]:
        return (self.gate.conv,)
