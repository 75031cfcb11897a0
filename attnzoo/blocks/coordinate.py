"""Coordinate attention: a gate for each row times a gate for each column, per channel.

Source: Q. Hou, D. Zhou, J. Feng, "Coordinate Attention for Efficient Mobile Network Design",
CVPR 2021, arXiv 2103.02907.
Shapes: x and gate (N, C, H, W); row gates (N, C, H, 1); column gates (N, C, 1, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import FLOOR, ConvNorm, Reduction, hidden_channels
from attnzoo.registry import register_block

__all__ = ["CoordinateAttention"]


class CoordinateGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, the product of row and column gates."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, hidden)
        self.row_expand = nn.Conv2d(hidden, channels, 1)
        self.column_expand = nn.Conv2d(hidden, channels, 1)

    def parts(self, x: Tensor) -> list[Tensor]:
        height = x.shape[2]
        rows, columns = kernels.mean(x, [3]), kernels.mean(x, [2])
        strips = torch.cat([rows, columns.transpose(2, 3)], dim=2)  # (N, C, H + W, 1)
        strips = F.hardswish(self.reduce(strips))
        rows, columns = strips[:, :, :height], strips[:, :, height:].transpose(2, 3)
        rows, columns = self.row_expand(rows), self.column_expand(columns)
        return [torch.sigmoid(rows), torch.sigmoid(columns)]


@register_block(
    "coord",
    kind="both",
    title="Coordinate attention",
    paper="Hou, Zhou, Feng: Coordinate Attention for Efficient Mobile Network Design (CVPR 2021)",
    year=2021,
    arxiv="2103.02907",
    maps={"gate": "both"},
    neutral=True,
)
class CoordinateAttention(GatedByMap):
    """Gates that know the row and the column, from means along each axis.

        f = hard swish(bn(W [means over each row; means over each column]))   (N, h, H + W)
        rows, columns = the two parts of f
        a_h = σ(W_h rows + b_h), a_w = σ(W_w columns + b_w)     (N, C, H, 1), (N, C, 1, W)
        y = x · a_h · a_w

    The gate, which is a map of its own when it is captured, is a_h · a_w.

    The width h is at least 8 by default, as in the authors' code. The bias before the BatchNorm,
    which cancels it, is left out. With the same widths the arithmetic is that of
    `timm.layers.coord_attn.CoordAttn(bias=True)`, whose reduction is 24 by default. All weights
    have PyTorch's default initialisation.

    Parameters: 3·C·h + 2·h + 2·C, with h = max(C // r, f).
    MACs: 2·C·h·(H + W).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import CoordinateAttention
        >>> CoordinateAttention(64, reduction=32)(torch.randn(2, 64, 14, 7)).shape
        torch.Size([2, 64, 14, 7])
    """

    last_layers = ("gate.row_expand", "gate.column_expand")
    halvings = 2

    def __init__(self, channels: int, reduction: Reduction = 32, floor: int = FLOOR) -> None:
        super().__init__()
        hidden = hidden_channels("CoordinateAttention", channels, reduction, floor)
        self.gate = CoordinateGate(channels, hidden)
