"""LocalAttention's channel gate with a spatial gate from self-attention in a window.

Source: attnzoo. The window is that of P. Ramachandran, N. Parmar, A. Vaswani, I. Bello,
A. Levskaya, J. Shlens, "Stand-Alone Self-Attention in Vision Models", NeurIPS 2019,
arXiv 1906.05909.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W); window attention
(N, k², H·W).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import (
    FLOOR,
    LARGEST,
    NEAR_UNIFORM,
    Reduction,
    hidden_channels,
    pointwise,
    wide,
)
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["LocalSelfAttention"]


class WindowGate(nn.Module):
    """x (N, C, H, W) → spatial gate (N, 1, H, W); each position attends to a k×k window."""

    def __init__(self, channels: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.reduce = pointwise(channels, hidden)
        self.query = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.key = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.value = pointwise(hidden, 1, scale=NEAR_UNIFORM)
        self.offsets = nn.Parameter(torch.zeros(window**2, 1))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.reduce(x))
        query, key, value = self.query(hidden), self.key(hidden), self.value(hidden)
        # The products are elementwise, which no autocast narrows again.
        queries = wide(query).flatten(2).unsqueeze(2)  # (N, h, 1, H·W)
        logits = (queries * self._neighbours(wide(key))).sum(1) * query.shape[1] ** -0.5
        inside = self._neighbours(torch.ones_like(value[:1])).squeeze(1) > 0
        # Added, which ncnn and others know, not filled in.
        logits = logits + wide(self.offsets) + torch.where(inside, 0.0, float("-inf"))
        mixed = (self.softmax(logits) * self._neighbours(wide(value)).squeeze(1)).sum(1)
        return torch.sigmoid(mixed.view(value.shape)).to(value.dtype)

    def _neighbours(self, x: Tensor) -> Tensor:
        """(N, c, H, W) → (N, c, k², H·W), zero outside the map."""
        windows = F.unfold(x, self.window, padding=self.window // 2)
        return windows.unflatten(1, (-1, self.window**2))


@register_block(
    "local-self",
    kind="both",
    title="LocalAttention with windowed self-attention",
    paper="LocalAttention, with the window of Ramachandran et al.: Stand-Alone Self-Attention "
    "(NeurIPS 2019)",
    year=2019,
    arxiv="1906.05909",
    maps={
        "channel_attention": "channel",
        "spatial_attention": "spatial",
        "spatial_attention.softmax": "pairwise",
    },
    former={"floor": 1},
    neutral=True,
)
class LocalSelfAttention(Gated):
    """LocalAttention whose spatial gate sees a window: self-attention instead of one position.

        channel = σ(W₂ relu(W₁ mean of x over H, W + b₁) + b₂)          (N, C, 1, 1), C → h → C
        u = relu(W₃ x + b₃)                                             (N, h, H, W)
        attention_ij = softmax over j of (W_q u_i)·(W_k u_j) / √h + offset(j − i)
        spatial_i = σ(Σ_j attention_ij (w₄·u_j + b₄))                   (N, 1, H, W)
        y = x · (channel · spatial)

    j runs over the k×k window around i, as in stand-alone self-attention, less what lies outside
    the map. The channel gate is LocalAttention's, and with k = 1 so is the spatial one. In place
    of that paper's relative vectors there is one learned number per offset, which starts at
    zero. In half precision the attention is in float32. Gates start near ½ as LocalAttention's.

    Parameters: 3·C·h + 3·h + C + 1 + 2·h² + k², with h = max(C // r, f).
    MACs: H·W·(C·h + 2·h² + h) + 2·C·h.

    (MACs count convolutions and matrix products only; the window's elementwise products take
    another H·W·k²·(h + 1).)

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        kernel_size: k, an odd integer ≥ 1.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LocalSelfAttention
        >>> LocalSelfAttention(64, kernel_size=7)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("channel_attention.fc2", "spatial_attention.value")
    halvings = 2

    def __init__(
        self,
        channels: int,
        reduction: Reduction = 8,
        kernel_size: int = 7,
        floor: int = FLOOR,
    ) -> None:
        super().__init__()
        owner = "LocalSelfAttention"
        hidden = hidden_channels(owner, channels, reduction, floor)
        check_int(owner, "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True)
        self.channel_attention = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                fc1=pointwise(channels, hidden),
                relu=nn.ReLU(),
                fc2=pointwise(hidden, channels, scale=NEAR_UNIFORM),
                sigmoid=nn.Sigmoid(),
            )
        )
        self.spatial_attention = WindowGate(channels, hidden, kernel_size)

    def gates(self, x: Tensor) -> list[Tensor]:
        channel = self.channel_attention(kernels.before_mean(x, self.channel_attention))
        return [channel, self.spatial_attention(x)]
