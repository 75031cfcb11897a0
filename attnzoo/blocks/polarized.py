"""Polarized self-attention: full-width softmax gates over channels and over space.

Source: H. Liu, F. Liu, X. Fan, D. Huang, "Polarized Self-Attention: Towards High-quality Pixel-wise
Regression", 2021, arXiv 2107.00782.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.checks import check_choice, check_int
from attnzoo.registry import register_block

__all__ = ["PolarizedSelfAttention"]


class PolarizedChannelGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1): values pooled with a softmax over positions."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.query(x).flatten(2).softmax(2).to(x.dtype)  # (N, 1, H·W)
        # The value layer is linear: applied after the pooling it costs one position, not H·W.
        pooled = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)  # (N, C, 1, 1)
        logits = self.expand(self.value(pooled)).flatten(1)
        gate = torch.sigmoid(self.norm(logits)).to(x.dtype)
        return gate.reshape(gate.shape[0], gate.shape[1], 1, 1)


class PolarizedSpatialGate(nn.Module):
    """x (N, C, H, W) → spatial gate (N, 1, H, W): values summed with a softmax over channels.

    With a channel gate: of x times that, which goes into what is linear.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, hidden, 1, bias=False)
        self.value = nn.Conv2d(channels, hidden, 1, bias=False)

    def forward(self, x: Tensor, channel: Tensor | None = None) -> Tensor:
        mean = kernels.mean(x, [2, 3])
        query = self.query(mean if channel is None else mean * channel).flatten(1)  # (N, h)
        weights = query.softmax(1).to(x.dtype)
        # Likewise: first the product of the two layers, then one product with the map.
        combined = (weights @ self.value.weight.flatten(1).to(x.dtype)).unsqueeze(1)  # (N, 1, C)
        if channel is not None:
            combined = combined * channel.flatten(1).unsqueeze(1).to(x.dtype)
        return torch.sigmoid((combined @ x.flatten(2)).unflatten(2, x.shape[2:])).to(x.dtype)


@register_block(
    "polarized",
    kind="both",
    title="Polarized self-attention",
    paper="Liu, Liu, Fan, Huang: Polarized Self-Attention (2021)",
    year=2021,
    arxiv="2107.00782",
    maps={"channel_gate": "channel", "spatial_gate": "spatial"},
    neutral=True,
)
class PolarizedSelfAttention(Gated):
    """Channel gate and spatial gate, each with a softmax over what the other keeps.

        channel = σ(ln(W_z (V_c x · softmax over H·W of (q_c x))))                  (N, C, 1, 1)
        spatial = σ(softmax over h of (Q_s (mean of x over H, W)) · V_s x)          (N, 1, H, W)
        parallel:    y = x · channel + x · spatial
        sequential:  y = z · spatial(z) with z = x · channel

    q_c: C → 1; V_c, V_s, Q_s: C → C//2; W_z: C//2 → C; all 1×1 convolutions without bias, as in
    the authors' code. The gates are the paper's equations, with its LayerNorm over the
    channels after W_z (the authors' code has a second bottleneck there). The products are taken
    in the order that costs least, which the linear layers allow: V_c after the pooling, Q_s after
    the mean, V_s before the product with the map.

    Parameters: 4·C·h + 3·C, with h = max(C // 2, 1).
    MACs: 3·C·H·W + 4·C·h.

    Args:
        channels: C, at least 1.
        mode: `"parallel"` or `"sequential"`.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import PolarizedSelfAttention
        >>> PolarizedSelfAttention(64, mode="sequential")(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("channel_gate.norm", "spatial_gate.value")

    def __init__(self, channels: int, mode: Literal["parallel", "sequential"] = "parallel") -> None:
        super().__init__()
        owner = "PolarizedSelfAttention"
        hidden = max(check_int(owner, "channels", channels, minimum=1) // 2, 1)
        self.mode = check_choice(owner, "mode", mode, ("parallel", "sequential"))
        self.added = mode == "parallel"
        self.halvings = 0 if self.added else 2  # ½ + ½, or ½ · ½
        self.channel_gate = PolarizedChannelGate(channels, hidden)
        self.spatial_gate = PolarizedSpatialGate(channels, hidden)

    def gates(self, x: Tensor) -> list[Tensor]:
        channel = self.channel_gate(x)
        return [channel, self.spatial_gate(x, None if self.added else channel)]

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"
