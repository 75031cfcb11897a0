"""Squeeze-and-Excitation: a channel gate from a two-layer perceptron on the mean of each channel.

Source: J. Hu, L. Shen, S. Albanie, G. Sun, E. Wu, "Squeeze-and-Excitation Networks", CVPR 2018,
arXiv 1709.01507.
Its effective variant, with one layer: Y. Lee, J. Park, "CenterMask: Real-Time Anchor-Free Instance
Segmentation", CVPR 2020, arXiv 1911.06667.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import FLOOR, Reduction, hidden_channels, pointwise
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["EffectiveSqueezeExcitation", "SqueezeExcitation"]


@register_block(
    "se",
    kind="channel",
    title="Squeeze-and-Excitation",
    paper="Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks (CVPR 2018)",
    year=2018,
    arxiv="1709.01507",
    maps={"gate": "channel"},
    former={"floor": 1},
    neutral=True,
)
class SqueezeExcitation(Gated):
    """Channel gate from a bottleneck perceptron on the channel means.

        gate = σ(W₂ relu(W₁ (mean of x over H, W) + b₁) + b₂)     (N, C, 1, 1), C → C//r → C
        y = x · gate

    The formula is that of the paper and of `timm.layers.SEModule` (1×1 convolutions stand for
    the fully connected layers). The width is the paper's C // r, and at least 8, below which
    a gate is often dead from the start (`floor=1` is the paper's); timm rounds it to a multiple
    of 8, so at r = 16 the two agree up to 128 channels and where 128 divides C. Initialised as
    the paper says (He et al.), biases at zero; timm leaves PyTorch's default.

    Parameters: 2·C·h + h + C, with h = max(C // r, f).
    MACs: 2·C·h.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import SqueezeExcitation
        >>> SqueezeExcitation(64, reduction=16)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("gate.fc2",)
    kind = "se"

    def __init__(self, channels: int, reduction: Reduction = 16, floor: int = FLOOR) -> None:
        super().__init__()
        hidden = hidden_channels("SqueezeExcitation", channels, reduction, floor)
        self.gate = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                fc1=pointwise(channels, hidden),
                relu=nn.ReLU(),
                fc2=pointwise(hidden, channels),
                sigmoid=nn.Sigmoid(),
            )
        )

    def gates(self, x: Tensor) -> list[Tensor]:
        if torch.jit.is_scripting():
            return [self.gate(x)]
        return [self.gate(kernels.before_mean(x, self.gate))]

    def layers(self) -> tuple[Any, ...]:
        return self.gate.fc1, self.gate.fc2


class HardSigmoid(nn.Module):
    """`nn.Hardsigmoid`, which torch has no second derivative of, in steps that have one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


@register_block(
    "ese",
    kind="channel",
    title="Effective Squeeze-Excitation",
    paper="Lee, Park: CenterMask (CVPR 2020)",
    year=2020,
    arxiv="1911.06667",
    maps={"gate": "channel"},
    neutral=True,
)
class EffectiveSqueezeExcitation(Gated):
    """Channel gate from one layer on the channel means: no bottleneck loses information.

        gate = hard σ(W (mean of x over H, W) + b)     (N, C, 1, 1), C → C
        y = x · gate
        hard σ(v) = min(max(v + 3, 0), 6) / 6

    The arithmetic and the initialisation (PyTorch's own) are those of the authors' code and of
    `timm.layers.EffectiveSEModule`. The hard sigmoid is the code's; the paper writes σ.

    Parameters: C² + C.
    MACs: C².

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import EffectiveSqueezeExcitation
        >>> EffectiveSqueezeExcitation(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("gate.fc",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("EffectiveSqueezeExcitation", "channels", channels, minimum=1)
        self.gate = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                fc=nn.Conv2d(channels, channels, 1),
                sigmoid=HardSigmoid(),
            )
        )

    def gates(self, x: Tensor) -> list[Tensor]:
        if torch.jit.is_scripting():
            return [self.gate(x)]
        return [self.gate(kernels.before_mean(x, self.gate))]
