"""Gated Channel Transformation: channels compete or cooperate through normalised energies.

Source: Z. Yang, L. Zhu, Y. Wu, Y. Yang, "Gated Channel Transformation for Visual Recognition",
CVPR 2020, arXiv 1909.11519.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import wide
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["GatedChannelTransformation"]

EPSILON = 1e-5  # of the authors' code


class GctGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1), between 0 and 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        energy = kernels.squares(wide(x), [2, 3])
        embedding = self.alpha * (energy + EPSILON).sqrt()
        scale = (embedding.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        return (1 + torch.tanh(self.gamma * embedding * scale + self.beta)).to(x.dtype)


@register_block(
    "gct",
    kind="channel",
    title="Gated Channel Transformation",
    paper="Yang, Zhu, Wu, Yang: Gated Channel Transformation for Visual Recognition (CVPR 2020)",
    year=2020,
    arxiv="1909.11519",
    maps={"gate": "channel"},
    identity_at_init=True,
)
class GatedChannelTransformation(Gated):
    """Channel gate from the energy of each channel, normalised over the channels.

        s = α · √(sum of x² over H, W + ε)     (N, C, 1, 1)
        ŝ = s / √(mean of s² over C + ε)
        gate = 1 + tanh(γ · ŝ + β)             (N, C, 1, 1), between 0 and 2
        y = x · gate

    α, β and γ are one number per channel; they start at 1, 0 and 0, so that the block starts as
    the identity. ε is 1e-5. The formula is that of the paper with its ℓ₂ norms, √C written into
    the mean as in the authors' code. Energies are computed in float32 at least.

    Parameters: 3·C.
    MACs: 0.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import GatedChannelTransformation
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(GatedChannelTransformation(64)(x), x)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("GatedChannelTransformation", "channels", channels, minimum=1)
        self.gate = GctGate(channels)

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]
