"""Efficient Multi-scale Attention: two branches per group of channels that weigh each other.

Source: D. Ouyang, S. He, G. Zhang, M. Luo, H. Guo, J. Zhan, Z. Huang, "Efficient Multi-Scale
Attention Module with Cross-Spatial Learning", ICASSP 2023, arXiv 2305.13563.
Shapes: x and gate (N, C, H, W); the gate is the same for all channels of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import channel_groups, group_norm, saturate
from attnzoo.registry import register_block

__all__ = ["EfficientMultiScaleAttention"]


class CrossSpatialGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, one map for each group of channels."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.groups = groups
        self.strip_conv = nn.Conv2d(width, width, 1)
        self.local_conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(width, width)

    again = False  # its convolution takes longer than all the rest

    def sharing(self) -> int:
        return self.groups

    def parts(self, x: Tensor) -> list[Tensor]:
        # By the sizes of x: those of `unflatten` are fixed in a program of the older ONNX exporter.
        count, channels, height, width = x.shape
        grouped = x.reshape(count * self.groups, channels // self.groups, height, width)
        coarse, fine = self._strips(grouped), saturate(self.local_conv(grouped)).to(x.dtype)
        logits = self._weigh(coarse, fine) + self._weigh(fine, coarse)  # (N·g, 1, H·W)
        gate = torch.sigmoid(logits).view(count, self.groups, 1, height, width)
        return [gate.to(x.dtype)]

    def _strips(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        rows, columns = kernels.mean(x, [3]), kernels.mean(x, [2])
        strips = torch.sigmoid(self.strip_conv(torch.cat([rows, columns.transpose(2, 3)], dim=2)))
        rows, columns = strips[:, :, :height], strips[:, :, height:].transpose(2, 3)
        return group_norm(self.norm, x * rows * columns).to(x.dtype)

    @staticmethod
    def _weigh(pooled: Tensor, kept: Tensor) -> Tensor:
        """Sum of the channels of `kept`, weighted by a softmax of the means of `pooled`."""
        weights = kernels.mean(pooled, [2, 3], keepdim=False).softmax(1).to(kept.dtype)
        return weights.unsqueeze(1) @ kept.flatten(2)


@register_block(
    "ema",
    kind="both",
    title="Efficient Multi-scale Attention",
    paper="Ouyang, He, Zhang, Luo, Guo, Zhan, Huang: EMA (ICASSP 2023)",
    year=2023,
    arxiv="2305.13563",
    maps={"gate": "both"},
    neutral=True,
)
class EfficientMultiScaleAttention(GatedByMap):
    """Spatial gate for each group of channels, from a strip branch and a 3×3 branch.

        rows, columns = σ(conv1×1([means over each row; means over each column]))
        coarse = gn(x · rows · columns)
        fine = conv3×3(x)
        logits = softmax(mean of coarse) · fine + softmax(mean of fine) · coarse
        gate = σ(logits)      (N, C, H, W), the same for all channels of a group
        y = x · gate

    All of this within each group of channels, with weights shared by the groups. Means are over
    H, W, softmaxes and products over the channels of a group; gn normalises every channel by
    itself, a single value (1×1) to zero. The number of groups g is the largest divisor of C up
    to G. All weights have PyTorch's default initialisation, as in the authors' code.

    Parameters: 10·w² + 4·w, with g = divisor(C, G) and w = C // g.
    MACs: g·(w²·(H + W) + 9·w²·H·W + 2·w·H·W).

    Args:
        channels: C, at least 1.
        groups: G, an integer ≥ 1; the authors' code calls it `factor`.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import EfficientMultiScaleAttention
        >>> block = EfficientMultiScaleAttention(96, groups=8)
        >>> block.gate.local_conv.in_channels, block(torch.randn(2, 96, 14, 14)).shape
        (12, torch.Size([2, 96, 14, 14]))
    """

    last_layers = ("gate.local_conv", "gate.norm")

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        count = channel_groups("EfficientMultiScaleAttention", channels, groups)
        self.gate = CrossSpatialGate(count, channels // count)
