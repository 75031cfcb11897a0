"""Strip pooling: context along whole rows and columns, fused into a gate.

Source: Q. Hou, L. Zhang, M.-M. Cheng, J. Feng, "Strip Pooling: Rethinking Spatial Pooling for Scene
Parsing", CVPR 2020, arXiv 2003.13328.
Shapes: x and gate (N, C, H, W); strips (N, C, H, 1) and (N, C, 1, W).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import ConvNorm, spread_sum
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["StripPooling"]


class StripPoolingGate(MapGate):
    """x (N, C, H, W) → gate of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows = ConvNorm(channels, channels, (3, 1), padding=(1, 0))
        self.columns = ConvNorm(channels, channels, (1, 3), padding=(0, 1))
        self.fuse = nn.Conv2d(channels, channels, 1)

    def parts(self, x: Tensor) -> list[Tensor]:
        return [self.rows(kernels.mean(x, [3])), self.columns(kernels.mean(x, [2]))]

    def how(self) -> Callable[..., Tensor]:
        return self._fused

    def _fused(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self.fuse(spread_sum(rows, columns).relu_()).sigmoid()

    def layer(self) -> nn.Module:
        return self.fuse


@register_block(
    "strip",
    kind="both",
    title="Strip pooling",
    paper="Hou, Zhang, Cheng, Feng: Strip Pooling (CVPR 2020)",
    year=2020,
    arxiv="2003.13328",
    maps={"gate": "both"},
    neutral=True,
)
class StripPooling(GatedByMap):
    """Gate from row means and column means, each convolved along its axis, then added.

        rows = bn(conv3×1(means of x over each row))           (N, C, H, 1)
        columns = bn(conv1×3(means of x over each column))     (N, C, 1, W)
        gate = σ(conv1×1(relu(rows + columns)))                (N, C, H, W)
        y = x · gate

    The layers are those of the authors' `SPBlock`; the paper's equations leave out the
    normalisation and the relu. In training, a single value per channel (one row or one column at
    N = 1) is normalised with the running statistics. All weights have PyTorch's default
    initialisation.

    Parameters: 7·C² + 5·C.
    MACs: 3·C²·(H + W) + C²·H·W.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import StripPooling
        >>> StripPooling(64)(torch.randn(2, 64, 14, 7)).shape
        torch.Size([2, 64, 14, 7])
    """

    last_layers = ("gate.fuse",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = StripPoolingGate(check_int("StripPooling", "channels", channels, minimum=1))
