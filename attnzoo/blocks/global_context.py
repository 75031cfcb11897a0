"""Global Context: one attention-pooled vector, transformed and added everywhere.

Source: Y. Cao, J. Xu, S. Lin, F. Wei, H. Hu, "GCNet: Non-local Networks Meet Squeeze-Excitation
Networks and Beyond", ICCV Workshops 2019, arXiv 1904.11492.
Shapes: x (N, C, H, W); attention (N, 1, H, W); context (N, C).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import Reduction, hidden_channels
from attnzoo.blocks.precision import add_residual, softmax
from attnzoo.registry import register_block

__all__ = ["GlobalContext"]


class PositionWeights(nn.Module):
    """x (N, C, H, W) → weights (N, 1, H, W) that sum to 1 over the positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.conv(x)
        return softmax(logits.flatten(2), -1).view(logits.shape)


@register_block(
    "gc",
    kind="context",
    title="Global Context",
    paper="Cao, Xu, Lin, Wei, Hu: GCNet (ICCV Workshops 2019)",
    year=2019,
    arxiv="1904.11492",
    maps={"attention": "spatial"},
    identity_at_init=True,
)
class GlobalContext(nn.Module):
    """One vector for the whole map, pooled by attention, transformed, and added everywhere.

        attention = softmax over H, W of W_k x                   (N, 1, H, W)
        context = Σ over H, W of attention · x                   (N, C)
        y = x + W₂ relu(layernorm(W₁ context + b₁)) + b₂         C → h → C

    Equation 4 of the paper, fused by addition; `timm.layers.GlobalContext(fuse_add=True,
    fuse_scale=False)` is the same but for the ε of its layer norm, which here is PyTorch's, as in
    the authors' code. (timm's `gc` fuses by a sigmoid gate instead: here that is `timm:gc`.) The
    last layer starts at zero, weight and bias, as in the authors' code, so the block starts as the
    identity. W_k has no bias, since the softmax would cancel it, and the width is at least 4 by
    default, since a layer norm over one or two units leaves of the context nothing or a sign.

    Parameters: 2·C·h + 3·h + 2·C, with h = max(C // r, f).
    MACs: 2·C·H·W + 2·C·h.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import GlobalContext
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(GlobalContext(64, reduction=16)(x), x)
        True
    """

    def __init__(self, channels: int, reduction: Reduction = 16, floor: int = 4) -> None:
        super().__init__()
        hidden = hidden_channels("GlobalContext", channels, reduction, floor)
        self.attention = PositionWeights(channels)
        last = nn.Linear(hidden, channels)
        self.transform = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(channels, hidden),
                norm=nn.LayerNorm(hidden),
                relu=nn.ReLU(),
                fc2=last,
            )
        )
        nn.init.kaiming_normal_(self.attention.conv.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention(x).flatten(2).transpose(1, 2).to(x.dtype)
        context = torch.bmm(x.flatten(2), weights).squeeze(-1)
        change = self.transform(context)
        return add_residual(x, change.reshape(change.shape[0], change.shape[1], 1, 1))
