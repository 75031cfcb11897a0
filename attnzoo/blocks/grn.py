"""Global Response Normalization: channels that respond more than the average are strengthened.

Source: S. Woo, S. Debnath, R. Hu, X. Chen, Z. Liu, I. S. Kweon, S. Xie, "ConvNeXt V2: Co-designing
and Scaling ConvNets with Masked Autoencoders", CVPR 2023, arXiv 2301.00808.
Shapes: x (N, C, H, W); relative response (N, C, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import wide
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["GlobalResponseNorm"]

EPSILON = 1e-6  # of the authors' code


class RelativeResponse(nn.Module):
    """x (N, C, H, W) → norm of each channel over the mean of the norms (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(wide(x), dim=(2, 3), keepdim=True)
        return norms / (norms.mean(1, keepdim=True) + EPSILON)


@register_block(
    "grn",
    kind="channel",
    title="Global Response Normalization",
    paper="Woo, Debnath, Hu, Chen, Liu, Kweon, Xie: ConvNeXt V2 (CVPR 2023)",
    year=2023,
    arxiv="2301.00808",
    maps={"response": "channel"},
    identity_at_init=True,
)
class GlobalResponseNorm(nn.Module):
    """Scales each channel by its norm relative to the mean norm of the channels.

        norm = √(sum of x² over H, W)
        response = norm / (mean of norm over C + ε)     (N, C, 1, 1)
        y = x + γ · (x · response) + β

    γ and β are one number per channel and start at 0, so that the block starts as the identity;
    ε is 1e-6. Equal to `timm.layers.grn.GlobalResponseNorm(C, channels_last=False)`, but computed
    as β + x · (1 + γ · response), in one pass over the map, and in float32 at least, since 1 + a
    small step is still 1 in bfloat16.

    Parameters: 2·C.
    MACs: 0.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import GlobalResponseNorm
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(GlobalResponseNorm(64)(x), x)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("GlobalResponseNorm", "channels", channels, minimum=1)
        self.response = RelativeResponse()
        self.weight = nn.Parameter(torch.zeros(channels))
        # (−0) + x is x bit for bit; 0 + x would turn a negative zero of x into a positive one
        self.bias = nn.Parameter(torch.full((channels,), -0.0))

    def forward(self, x: Tensor) -> Tensor:
        gate = 1 + self.weight.view(-1, 1, 1) * self.response(x)
        y = (x.to(gate.dtype) * gate).add_(self.bias.view(-1, 1, 1))
        return y.to(x.dtype)
