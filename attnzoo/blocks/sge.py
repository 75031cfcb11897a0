"""Spatial Group-wise Enhance: in each group of channels, a gate where local and global agree.

Source: X. Li, X. Hu, J. Yang, "Spatial Group-wise Enhance: Improving Semantic Feature Learning in
Convolutional Networks", 2019, arXiv 1905.09646.
Shapes: x and gate (N, C, H, W); the gate is the same for all channels of a group.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import channel_groups, wide
from attnzoo.registry import register_block

__all__ = ["SpatialGroupEnhance"]

EPSILON = 1e-5  # of the authors' code


class SimilarityGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, one map for each group of channels."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(groups, 1, 1))

    def sharing(self) -> int:
        return self.groups

    again = False  # it is x

    def parts(self, x: Tensor) -> list[Tensor]:
        return [x]

    def layer(self) -> nn.Module:
        return self

    def how(self) -> Callable[..., Tensor]:
        return self._by_group

    def _by_group(self, x: Tensor) -> Tensor:
        values = wide(x).unflatten(1, (self.groups, -1))  # (N, G, C/G, H, W)
        similarity = (values * kernels.mean(values, [3, 4])).sum(2)
        centred = similarity - kernels.mean(similarity, [2, 3])
        deviation = kernels.deviation(centred, (2, 3))
        logits = (centred / (deviation + EPSILON) * self.weight).add_(self.bias)
        return logits.sigmoid_().to(x.dtype).unsqueeze(2)


@register_block(
    "sge",
    kind="both",
    title="Spatial Group-wise Enhance",
    paper="Li, Hu, Yang: Spatial Group-wise Enhance (2019)",
    year=2019,
    arxiv="1905.09646",
    maps={"gate": "both"},
    neutral=True,
)
class SpatialGroupEnhance(GatedByMap):
    """Spatial gate for each group of channels: how like the group's mean each position is.

        c = ⟨mean of x over H, W; x⟩, the scalar product over the channels of a group
        ĉ = (c − μ) / (σ + ε)                 μ, σ: mean and deviation of c over H, W
        gate = sigmoid(w · ĉ + b)             (N, C, H, W), the same for all channels of a group
        y = x · gate

    w and b are one number per group and start at 0 and 1; ε is 1e-5. The number of groups g is
    the largest divisor of C up to G. σ divides by H·W as in the paper (the authors' code divides
    by H·W − 1, which is undefined at 1×1). Products are computed in float32 at least.

    Parameters: 2·g, with g = divisor(C, G).
    MACs: 0.

    Args:
        channels: C, at least 1.
        groups: G, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import SpatialGroupEnhance
        >>> block = SpatialGroupEnhance(96, groups=64)
        >>> block.gate.groups, block(torch.randn(2, 96, 14, 14)).shape
        (48, torch.Size([2, 96, 14, 14]))
    """

    last_layers = ("gate",)

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        self.gate = SimilarityGate(channel_groups("SpatialGroupEnhance", channels, groups))
