"""Two-dimensional multi-head self-attention with relative positions.

Source: A. Srinivas, T.-Y. Lin, N. Parmar, J. Shlens, P. Abbeel, A. Vaswani, "Bottleneck
Transformers for Visual Recognition", CVPR 2021, arXiv 2101.11605.
Shapes: x (N, C, H, W); queries, keys and values (N, n, H·W, d) for n heads of d channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.parts import LARGEST, channel_groups, wide
from attnzoo.blocks.precision import add_residual, without_autocast
from attnzoo.blocks.relative import RelativePositions
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["MultiHeadSelfAttention"]


@register_block(
    "mhsa",
    kind="context",
    title="2-D Multi-Head Self-Attention",
    paper="Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani: Bottleneck Transformers (CVPR 2021)",
    year=2021,
    arxiv="2101.11605",
    limits={
        "neutral": "The values leave the softmax unprojected: there is no layer behind it that "
        "could start at zero.",
        "maps": "The attention runs in scaled_dot_product_attention, whose fused kernels never "
        "form the attention matrix.",
    },
)
class MultiHeadSelfAttention(nn.Module):
    """All-to-all attention of n heads, with learned relative positions along height and width.

        logits_ij = q_i·k_j / √d + q_i·(r_height(row_j − row_i) + r_width(column_j − column_i))
        y_i = x_i + Σ_j softmax over j of logits_ij · v_j        heads concatenated, q, k, v = W x

    The MHSA layer of the paper, its figure 4, as in `timm.layers.bottleneck_attn`; the addition of
    x is that of the bottleneck around it in the paper. The paper's tables of relative positions
    fit one image size; here distances beyond ±S share one vector, so that any H×W goes through
    one set of weights. The number of heads is the largest divisor of C up to M. Weights start as
    in timm: normal, of variance 1/C for q, k, v and 1/d for the positions.

    The attention runs in `torch.nn.functional.scaled_dot_product_attention`, which hides the
    attention map: the registry declares none. In half precision logits and attention are in
    float32.

    Parameters: 3·C² + (4·S + 2)·d, with d = C // divisor(C, M).
    MACs: H·W·(3·C² + C·(H + W) + 2·H·W·C) + (H² + W²)·(2·S + 1)·d.

    Args:
        channels: C, at least 1.
        heads: M, the most heads, an integer ≥ 1.
        span: S, the largest distance that has a vector of its own, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import MultiHeadSelfAttention
        >>> MultiHeadSelfAttention(64, heads=4, span=31)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, channels: int, heads: int = 4, span: int = 31) -> None:
        super().__init__()
        owner = "MultiHeadSelfAttention"
        check_int(owner, "channels", channels, minimum=1)
        check_int(owner, "heads", heads, minimum=1)
        check_int(owner, "span", span, minimum=1, maximum=LARGEST)
        self.heads = channel_groups(owner, channels, heads)
        width = channels // self.heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.height = RelativePositions(span, width)
        self.width = RelativePositions(span, width)
        nn.init.normal_(self.qkv.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # (N, 3n, d, H·W) → three of (N, n, H·W, d)
        qkv = wide(self.qkv(x)).flatten(2).unflatten(1, (3 * self.heads, -1)).transpose(2, 3)
        query, key, value = qkv.chunk(3, dim=1)
        with without_autocast(x):
            places = query.unflatten(2, (height, width))  # (N, n, H, W, d)
            by_row = places @ wide(self.height(height)).transpose(1, 2)  # (N, n, H, W, H)
            by_column = places.transpose(2, 3) @ wide(self.width(width)).transpose(1, 2)
            bias = self._sums(by_row, by_column.transpose(2, 3))  # (N, n, H·W, H·W)
            if not torch.jit.is_scripting() and kernels.is_exported(x):
                # Written out: not every tool has it in one.
                logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + bias
                mixed = logits.softmax(-1) @ value
            else:
                mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            return add_residual(x, mixed.transpose(2, 3).reshape(x.shape))

    def _sums(self, by_row: Tensor, by_column: Tensor) -> Tensor:
        """(N, n, H, W, H) and (N, n, H, W, W) → each with each."""
        if isinstance(by_row.shape[2], torch.SymInt):  # else torch.export would refuse 1×1
            return (by_row[..., None] + by_column[..., None, :]).flatten(4).flatten(2, 3)
        # Of five axes: some tools know no more.
        by_row, by_column = by_row.flatten(2, 3), by_column.flatten(2, 3)
        return (by_row[..., None] + by_column[..., None, :]).flatten(3)
