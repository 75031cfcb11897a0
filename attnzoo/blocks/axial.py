"""Axial attention: position-sensitive self-attention along the columns, then along the rows.

Source: H. Wang, Y. Zhu, B. Green, H. Adam, A. Yuille, L.-C. Chen, "Axial-DeepLab: Stand-Alone
Axial-Attention for Panoptic Segmentation", ECCV 2020, arXiv 2003.07853.
Shapes: x (N, C, H, W); attention along the columns (N, n, W, H, H), along the rows
(N, n, H, W, W), for n heads.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnzoo.blocks.parts import LARGEST, channel_groups, saturate, wide
from attnzoo.blocks.precision import add_residual, without_autocast
from attnzoo.blocks.relative import RelativePositions
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["AxialAttention"]


class ColumnAttention(nn.Module):
    """x (N, C, H, W) → the same shape: each position attends to the H positions of its column."""

    def __init__(self, channels: int, heads: int, span: int) -> None:
        super().__init__()
        self.heads = heads
        self.value_width = channels // heads
        self.key_width = max(self.value_width // 2, 1)
        self.query = nn.Conv2d(channels, heads * self.key_width, 1, bias=False)
        self.key = nn.Conv2d(channels, heads * self.key_width, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.query_positions = RelativePositions(span, self.key_width)
        self.key_positions = RelativePositions(span, self.key_width)
        self.value_positions = RelativePositions(span, self.value_width)
        self.softmax = nn.Softmax(dim=-1)
        for conv in (self.query, self.key, self.value):
            nn.init.normal_(conv.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        tensors = (self.query(x), self.key(x), self.value(x))
        # (N, n·c, H, W) → (N, n, H, W, c)
        query, key, value = (
            wide(saturate(t)).unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 2) for t in tensors
        )
        by_query = wide(self.query_positions(height))  # each (H, H, c): who looks, at whom
        by_key = wide(self.key_positions(height))
        by_value = wide(self.value_positions(height))
        with without_autocast(x):
            logits = query.transpose(2, 3) @ key.permute(0, 1, 3, 4, 2)  # (N, n, W, H, H)
            logits = logits + (query @ by_query.transpose(1, 2)).transpose(2, 3)
            logits = logits + (key @ by_key.permute(1, 2, 0)).permute(0, 1, 3, 4, 2)
            attention = self.softmax(logits * self.key_width**-0.5)
            mixed = (attention @ value.transpose(2, 3)).transpose(2, 3)  # (N, n, H, W, c)
            mixed = mixed + attention.transpose(2, 3) @ by_value
        return saturate(mixed.permute(0, 1, 4, 2, 3).flatten(1, 2).to(x.dtype))


@register_block(
    "axial",
    kind="context",
    title="Axial Attention",
    paper="Wang, Zhu, Green, Adam, Yuille, Chen: Axial-DeepLab (ECCV 2020)",
    year=2020,
    arxiv="2003.07853",
    maps={"columns.softmax": "pairwise", "rows.softmax": "pairwise"},
    limits={
        "neutral": "Its values and their positions leave the softmax unprojected: there is no "
        "layer behind it that could start at zero.",
    },
)
class AxialAttention(nn.Module):
    """Attention along the columns, then along the rows: the whole map at the cost of two lines.

        a_op = softmax over p of (q_o·k_p + q_o·r^q(p − o) + k_p·r^k(p − o)) / √h
        column(x)_o = Σ_p a_op (v_p + r^v(p − o))       p in the column of o;  q, k, v = W x
        y = x + row(column(x))

    Equation 4 of the paper (position-sensitive self-attention) in n heads, concatenated; per head,
    queries and keys have h channels and values v, twice as many, as in the paper. `row` is the
    same along the rows, with weights of its own. The addition of x is that of the bottleneck
    around the two layers in the paper. Differences: the authors' code normalises q, k, v, the
    three logits and both outputs by BatchNorm; the paper's formulas do not, and here a division
    by √h keeps the logits small instead. Distances beyond ±S share one vector, so that any H×W
    goes through. n is the largest divisor of C up to M. Weights start normal, of variance 1/C,
    positions of variance 1/width. In half precision logits and attention are in float32.

    Parameters: 2·C² + 4·C·n·h + (4·S + 2)·(2·h + v),
    with n = divisor(C, M) and v = C // n and h = max(v // 2, 1).
    MACs: H·W·(2·C² + 4·C·n·h + (H + W)·(3·n·h + 2·C)) + (H² + W²)·(2·S + 1)·(2·h + v).

    Args:
        channels: C, at least 1.
        heads: M, the most heads, an integer ≥ 1.
        span: S, the largest distance that has a vector of its own, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import AxialAttention
        >>> AxialAttention(64, heads=8, span=31)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, channels: int, heads: int = 8, span: int = 31) -> None:
        super().__init__()
        owner = "AxialAttention"
        check_int(owner, "channels", channels, minimum=1)
        check_int(owner, "heads", heads, minimum=1)
        check_int(owner, "span", span, minimum=1, maximum=LARGEST)
        heads = channel_groups(owner, channels, heads)
        self.columns = ColumnAttention(channels, heads, span)
        self.rows = ColumnAttention(channels, heads, span)

    def forward(self, x: Tensor) -> Tensor:
        turned = self.columns(x).transpose(2, 3)
        return add_residual(x, self.rows(turned).transpose(2, 3))
