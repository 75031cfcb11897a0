"""Criss-cross attention: every position attends to its own row and column, twice.

Source: Z. Huang, X. Wang, L. Huang, C. Huang, Y. Wei, W. Liu, "CCNet: Criss-Cross Attention for
Semantic Segmentation", ICCV 2019, arXiv 1811.11721.
Shapes: x (N, C, H, W); attention (N, H, W, H + W): the column, then the row of each position.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import Reduction, hidden_channels, wide
from attnzoo.blocks.precision import add_residual, softmax, without_autocast
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["CrissCross"]


@register_block(
    "crisscross",
    kind="context",
    title="Criss-Cross Attention",
    paper="Huang, Wang, Huang, Huang, Wei, Liu: CCNet (ICCV 2019)",
    year=2019,
    arxiv="1811.11721",
    maps={"softmax": "pairwise"},
    identity_at_init=True,
)
class CrissCross(nn.Module):
    """Attention over the row and the column of each position; a second pass reaches the whole map.

        attention = softmax over the H + W − 1 positions j in the row and column of i
                    of (W_q x_i + b_q)·(W_k x_j)                    (N, H, W, H + W), C → h
        y_i = x_i + γ·Σ_j attention_ij (W_v x_j + b_v)              γ starts at 0

    R times over, with the same weights (R = 2 in the paper: then every position has seen all the
    others). Equations 1 and 2 of the paper and the authors' code, with h = C // 8. γ starts at
    zero, as there, so the block starts as the identity. The convolutions before, between and
    after the passes belong to the paper's segmentation head and are left out. The position itself
    is counted in the row alone: its place in the column has weight zero. W_k has no bias, since
    the softmax would cancel it. `softmax` returns the attention of the last pass; that of
    the earlier ones is not shown. Attention is taken in float32 where the network runs in half
    precision.

    Parameters: 2·C·h + h + C² + C + 1, with h = max(C // r, 1).
    MACs: R·H·W·(2·C·h + C² + (H + W)·(h + C)).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        recurrence: R, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import CrissCross
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(CrissCross(64, reduction=8, recurrence=2)(x), x)
        True
    """

    def __init__(self, channels: int, reduction: Reduction = 8, recurrence: int = 2) -> None:
        super().__init__()
        hidden = hidden_channels("CrissCross", channels, reduction)
        self.recurrence = check_int("CrissCross", "recurrence", recurrence, minimum=1, maximum=64)
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.softmax = nn.Softmax(dim=-1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for step in range(self.recurrence):
            x = self._attend(x, last=step == self.recurrence - 1)
        return x

    def _attend(self, x: Tensor, last: bool) -> Tensor:
        query, key, value = map(wide, (self.query(x), self.key(x), self.value(x)))
        height = x.shape[2]
        rows = torch.arange(height, device=x.device)
        # Added, which ncnn and others know, not filled in.
        itself = torch.where(rows[:, None] == rows, float("-inf"), 0.0).to(query.dtype)
        itself = itself[:, None]  # (H, 1, H)
        with without_autocast(x):
            column = query.permute(0, 3, 2, 1) @ key.permute(0, 3, 1, 2)  # (N, W, H, H)
            column = column.transpose(1, 2) + itself
            row = query.permute(0, 2, 3, 1) @ key.permute(0, 2, 1, 3)  # (N, H, W, W)
            logits = torch.cat([column, row], dim=-1)
            attention = self.softmax(logits) if last else softmax(logits, -1)
            by_column = attention[..., :height].transpose(1, 2) @ value.permute(0, 3, 2, 1)
            by_row = attention[..., height:] @ value.permute(0, 2, 3, 1)  # (N, H, W, C)
            mixed = (by_column.transpose(1, 2) + by_row).permute(0, 3, 1, 2)
            return add_residual(x, self.gamma * mixed)
