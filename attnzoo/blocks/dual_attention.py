"""Dual attention: self-attention between positions plus self-attention between channels.

Source: J. Fu, J. Liu, H. Tian, Y. Li, Y. Bao, Z. Fang, H. Lu, "Dual Attention Network for Scene
Segmentation" (DANet), CVPR 2019, arXiv 1809.02983.
Shapes: x (N, C, H, W); position attention (N, H·W, H·W); channel attention (N, C, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import Reduction, hidden_channels, wide
from attnzoo.blocks.precision import add_residual, without_autocast
from attnzoo.registry import register_block

__all__ = ["DualAttention"]


class PositionAttention(nn.Module):
    """x (N, C, H, W) → for each position, a weighted mean over all positions."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        tensors = (self.query(x), self.key(x), self.value(x))
        query, key, value = (wide(t).flatten(2) for t in tensors)
        with without_autocast(x):
            attention = self.softmax(torch.bmm(query.transpose(1, 2), key))
            return torch.bmm(value, attention.transpose(1, 2)).view(x.shape)


class ChannelAttention(nn.Module):
    """x (N, C, H, W) → for each channel, a weighted mean over all channels. No parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        # With three axes, OpenVINO 2026.4 takes both products and the softmax for an attention
        # along the rows of each map.
        flat = wide(x).flatten(2).unsqueeze(1)
        with without_autocast(x):
            attention = self.softmax(-(flat @ flat.transpose(2, 3)).squeeze(1))
            return (attention.unsqueeze(1) @ flat).view(x.shape)


@register_block(
    "danet",
    kind="context",
    title="Dual Attention",
    paper="Fu, Liu, Tian, Li, Bao, Fang, Lu: Dual Attention Network (CVPR 2019)",
    year=2019,
    arxiv="1809.02983",
    maps={"position.softmax": "pairwise", "channel.softmax": "pairwise"},
    identity_at_init=True,
)
class DualAttention(nn.Module):
    """Position attention and channel attention, side by side.

        position = softmax over j of (W_q x_i + b_q)·(W_k x_j)        (N, H·W, H·W), C → h
        channel = softmax over d of −(x_c·x_d)                        (N, C, C)
        y = x + α·Σ_j position_ij (W_v x_j + b_v) + β·Σ_d channel_cd x_d      α, β start at 0

    Equations 1 to 4 of the paper, with the h = C // 8 of the authors' code. α and β start at zero,
    as in the paper, so the block starts as the identity. Differences: in the paper each branch
    adds x and has convolutions before and behind it; a block that may stand anywhere adds x once
    and has none of these. The sign inside the channel softmax is that of the authors' code
    (largest energy − energy); with the paper's equation 3 nearly every channel would attend to
    itself alone. W_k has no bias, since the softmax would cancel it. Both attentions are taken
    in float32 where the network runs in half precision.

    Parameters: 2·C·h + h + C² + C + 2, with h = max(C // r, 1).
    MACs: H·W·(2·C·h + 3·C²) + (H·W)²·(h + C).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import DualAttention
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(DualAttention(64, reduction=8)(x), x)
        True
    """

    def __init__(self, channels: int, reduction: Reduction = 8) -> None:
        super().__init__()
        hidden = hidden_channels("DualAttention", channels, reduction)
        self.position = PositionAttention(channels, hidden)
        self.channel = ChannelAttention()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(x, self.alpha * self.position(x) + self.beta * self.channel(x))
