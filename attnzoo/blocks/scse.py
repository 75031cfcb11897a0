"""scSE: a channel gate and a spatial gate side by side, their results added.

Source: A. G. Roy, N. Navab, C. Wachinger, "Concurrent Spatial and Channel 'Squeeze & Excitation'
in Fully Convolutional Networks", MICCAI 2018, arXiv 1803.02579.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import FLOOR, Reduction, hidden_channels, pointwise
from attnzoo.registry import register_block

__all__ = ["ConcurrentSqueezeExcitation"]


@register_block(
    "scse",
    kind="both",
    title="Concurrent spatial and channel squeeze and excitation",
    paper="Roy, Navab, Wachinger: Concurrent Squeeze and Excitation (MICCAI 2018)",
    year=2018,
    arxiv="1803.02579",
    maps={"channel_gate": "channel", "spatial_gate": "spatial"},
    former={"floor": 1},
    neutral=True,
)
class ConcurrentSqueezeExcitation(Gated):
    """Squeeze-and-Excitation over channels plus the same over space.

        channel = σ(W₂ relu(W₁ (mean of x over H, W) + b₁) + b₂)     (N, C, 1, 1), C → C//r → C
        spatial = σ(conv1×1(x))                                      (N, 1, H, W)
        y = x · channel + x · spatial

    The sum is computed as x · (channel + spatial). r is 2 in the paper. Initialised as `se`:
    He et al., biases at zero.

    Parameters: 2·C·h + h + 2·C + 1, with h = max(C // r, f).
    MACs: 2·C·h + C·H·W.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import ConcurrentSqueezeExcitation
        >>> ConcurrentSqueezeExcitation(64, reduction=2)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("channel_gate.fc2", "spatial_gate.conv")
    kind = "scse"
    added = True
    halvings = 0  # ½ + ½

    def __init__(self, channels: int, reduction: Reduction = 2, floor: int = FLOOR) -> None:
        super().__init__()
        hidden = hidden_channels("ConcurrentSqueezeExcitation", channels, reduction, floor)
        self.channel_gate = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                fc1=pointwise(channels, hidden),
                relu=nn.ReLU(),
                fc2=pointwise(hidden, channels),
                sigmoid=nn.Sigmoid(),
            )
        )
        self.spatial_gate = nn.Sequential(
            OrderedDict(conv=pointwise(channels, 1), sigmoid=nn.Sigmoid())
        )

    def gates(self, x: Tensor) -> list[Tensor]:
        if torch.jit.is_scripting():
            return [self.channel_gate(x), self.spatial_gate(x)]
        channel = self.channel_gate(kernels.before_mean(x, self.channel_gate))
        return [channel, self.spatial_gate(x)]

    def layers(self) -> tuple[Any, ...]:
        return self.channel_gate.fc1, self.channel_gate.fc2, self.spatial_gate.conv
