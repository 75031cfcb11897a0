"""LocalAttention: the reference block, a channel gate times a spatial gate.

Source: the article "VGG16 with attention" that attnzoo began from; no paper.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import (
    FLOOR,
    NEAR_UNIFORM,
    Reduction,
    hidden_channels,
    pointwise,
)
from attnzoo.registry import register_block

__all__ = ["LocalAttention"]

#: Most units of a hidden layer that is not kept.
_NARROW = 16


class LocalAttention(Gated):
    """Channel gate times spatial gate, multiplied onto the feature map.

        channel = σ(conv1×1(relu(conv1×1(mean of x over H, W))))     (N, C, 1, 1), C → C//r → C
        spatial = σ(conv1×1(relu(conv1×1(x))))                       (N, 1, H, W), C → C//r → 1
        y = x · channel · spatial

    The submodules and their order are those of the published code, so its checkpoints load, and so
    is the width. The block `local` has 8 hidden units at least.
    Parameters: 3·C·h + 3·h + C + 1, with h = max(C // r, f).
    MACs: H·W·(C·h + h) + 2·C·h.

    Args:
        in_channels: C, at least 1.
        reduction_ratio: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LocalAttention
        >>> LocalAttention(64, reduction_ratio=8)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("channel_attention.3", "spatial_attention.2")
    kind = "local"
    halvings = 2

    def __init__(self, in_channels: int, reduction_ratio: Reduction = 8, floor: int = 1) -> None:
        super().__init__()
        hidden = hidden_channels("LocalAttention", in_channels, reduction_ratio, floor)
        self.narrow = hidden <= _NARROW
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            pointwise(in_channels, hidden),
            nn.ReLU(),
            pointwise(hidden, in_channels, scale=NEAR_UNIFORM),
            nn.Sigmoid(),
        )
        self.spatial_attention = nn.Sequential(
            pointwise(in_channels, hidden),
            nn.ReLU(),
            pointwise(hidden, 1, scale=NEAR_UNIFORM),
            nn.Sigmoid(),
        )

    def gates(self, x: Tensor) -> list[Tensor]:
        if torch.jit.is_scripting():
            return [self.channel_attention(x), self.spatial_attention(x)]
        channel = self.channel_attention(kernels.before_mean(x, self.channel_attention))
        return [channel, self._spatial(x)]

    @torch.jit.unused
    def _spatial(self, x: Tensor) -> Tensor:
        """The spatial gate, its hidden layer made again in the backward pass where it is narrow.

        There the map is large as a rule, and to make the layer again takes little of the time.
        """
        gate = self.spatial_attention
        if not self.narrow or any(map(kernels.is_watched, gate.modules())):
            return gate(x)
        return kernels.recomputed(lambda t: [gate(t)], x, module=gate)[0]

    def layers(self) -> tuple[Any, ...]:
        channel, spatial = self.channel_attention, self.spatial_attention
        return channel[1], channel[3], spatial[0], spatial[2]


@register_block(
    "local",
    kind="both",
    title="LocalAttention",
    paper="VGG16 with attention before every pool (article, no paper)",
    maps={"channel_attention": "channel", "spatial_attention": "spatial"},
    former={"floor": 1},
    neutral=True,
)
def local(channels: int, reduction: Reduction = 8, floor: int = FLOOR) -> LocalAttention:
    """Channel gate times spatial gate; the reference block.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.
    """
    return LocalAttention(channels, reduction_ratio=reduction, floor=floor)
