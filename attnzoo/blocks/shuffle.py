"""Shuffle attention: groups of channels, half gated by channel, half by space, then shuffled.

Source: Q.-L. Zhang, Y.-B. Yang, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
ICASSP 2021, arXiv 2102.00240.
Shapes: x and gate (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.parts import channel_groups, group_norm, saturate, wide
from attnzoo.checks import check_int
from attnzoo.errors import OptionError
from attnzoo.registry import register_block

__all__ = ["ShuffleAttention"]


class HalvesGate(nn.Module):
    """x (N, C, H, W) → gate of the same shape: in each group, channel gates, then spatial ones."""

    def __init__(self, groups: int, half: int) -> None:
        super().__init__()
        self.groups = groups
        self.channel_weight = nn.Parameter(torch.zeros(half, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(half, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(half, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(half, 1, 1))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and kernels.is_exported(x):
            return self._of_whole_maps(x)
        halves = x.unflatten(1, (self.groups, 2, -1))  # (N, G, 2, C/2G, H, W)
        first, second = halves[:, :, 0], halves[:, :, 1]
        means = kernels.mean(first, [3, 4])
        channel = torch.sigmoid(self.channel_weight * means + self.channel_bias)
        normalised = group_norm(self.norm, second.flatten(0, 1)).unflatten(0, (-1, self.groups))
        spatial = torch.sigmoid(self.spatial_weight * normalised + self.spatial_bias)
        gate = torch.stack([channel.expand_as(spatial).to(spatial.dtype), spatial], dim=2)
        return gate.flatten(1, 3).to(x.dtype)

    def _of_whole_maps(self, x: Tensor) -> Tensor:
        """The same in operations of 4-D maps, which every tool knows: the other half has zeros."""
        values = wide(saturate(x))
        means = values.mean((2, 3), keepdim=True)
        centred = values - means
        variance = centred.square().mean((2, 3), keepdim=True)
        normalised = centred * (variance + self.norm.eps).rsqrt()
        weight, bias = (t.view(-1, 1, 1) for t in (self.norm.weight, self.norm.bias))
        zero = torch.zeros_like(weight)
        logits = self._tiled(self.channel_weight, zero) * means
        logits = logits + self._tiled(zero, self.spatial_weight * weight) * normalised
        shift = self.spatial_weight * bias + self.spatial_bias
        return torch.sigmoid(logits + self._tiled(self.channel_bias, shift)).to(x.dtype)

    def _tiled(self, first: Tensor, second: Tensor) -> Tensor:
        """(C/2G, 1, 1) of each half → (C, 1, 1)."""
        return torch.cat([first, second]).repeat(self.groups, 1, 1)


@register_block(
    "shuffle",
    kind="both",
    title="Shuffle attention",
    paper="Zhang, Yang: SA-Net (ICASSP 2021)",
    year=2021,
    arxiv="2102.00240",
    maps={"gate": "both"},
    limits={
        "shapes": "C must be even: one half of the channels gets channel gates and the other "
        "spatial ones.",
        "neutral": "The channels are shuffled whatever the gates are.",
    },
)
class ShuffleAttention(nn.Module):
    """Channel gates on one half of each group, spatial gates on the other, then a shuffle.

        x₁, x₂ = the two halves of a group of channels
        channel = σ(w₁ · mean of x₁ over H, W + b₁)     (C/2g, 1, 1) for each group
        spatial = σ(w₂ · gn(x₂) + b₂)                   (C/2g, H, W) for each group
        gate = [channel; spatial] of all groups         (N, C, H, W)
        y = shuffle(x · gate)

    w, b and the normalisation's weights are the same for all groups; w starts at 0 and b at 1.
    gn normalises every channel by itself, as in the authors' code; a single value (1×1) is
    normalised to zero. The shuffle moves channel i of the first half of C to place 2i and of the
    second half to 2i + 1, so that groups meet: the block is not an identity in any state. The
    number of groups g is the largest divisor of C / 2 up to G.

    Parameters: 3·C // g, with g = divisor(C // 2, G).
    MACs: 0.

    Args:
        channels: C, even, at least 2: a group is split into two halves.
        groups: G, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import ShuffleAttention
        >>> block = ShuffleAttention(96, groups=64)
        >>> block.gate.groups, block(torch.randn(2, 96, 14, 14)).shape
        (48, torch.Size([2, 96, 14, 14]))
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        owner = "ShuffleAttention"
        if check_int(owner, "channels", channels, minimum=1) % 2:
            raise OptionError(
                f"{owner}: channels={channels} must be even, since one half of the channels gets "
                f"channel gates and the other spatial ones."
            )
        count = channel_groups(owner, channels // 2, groups)
        self.gate = HalvesGate(count, channels // 2 // count)

    def forward(self, x: Tensor) -> Tensor:
        gated = x * self.gate(x)
        if gated.is_contiguous():
            return gated.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        last = gated.movedim(1, -1)  # channels last, which the shuffled map stays
        return last.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2).movedim(-1, 1)
