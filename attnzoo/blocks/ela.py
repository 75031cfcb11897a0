"""Efficient Local Attention: row and column gates from 1-D convolutions along each axis.

Source: W. Xu, Y. Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
2024, arXiv 2403.01123.
Shapes: x and gate (N, C, H, W); row gates (N, C, H); column gates (N, C, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import LARGEST, channel_groups, group_norm
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["EfficientLocalAttention"]


class StripGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, the product of row and column gates."""

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=channels,
            bias=False,
        )
        self.norm = nn.GroupNorm(groups, channels)

    def parts(self, x: Tensor) -> list[Tensor]:
        if kernels.is_exported(x) and type(self.conv) is nn.Conv1d:
            return [self._along_side(x, 2), self._along_side(x, 3)]
        rows = self._along(kernels.mean(x, [3], keepdim=False))
        columns = self._along(kernels.mean(x, [2], keepdim=False))
        return [rows.unsqueeze(3), columns.unsqueeze(2)]

    def _along(self, means: Tensor) -> Tensor:
        return torch.sigmoid(group_norm(self.norm, self.conv(means)))

    def _along_side(self, x: Tensor, side: int) -> Tensor:
        """The same of 4-D maps: ExecuTorch 1.5 with XNNPACK does not take the others."""
        across = 5 - side
        weight, padding = self.conv.weight.unsqueeze(across), self.conv.kernel_size[0] // 2
        means = kernels.mean(x, [across])
        pads = [padding, 0] if side == 2 else [0, padding]
        convolved = F.conv2d(means, weight, None, 1, pads, 1, self.conv.groups)
        return torch.sigmoid(group_norm(self.norm, convolved))


@register_block(
    "ela",
    kind="both",
    title="Efficient Local Attention",
    paper="Xu, Wan: ELA (2024)",
    year=2024,
    arxiv="2403.01123",
    maps={"gate": "both"},
    neutral=True,
)
class EfficientLocalAttention(GatedByMap):
    """Row and column gates without a bottleneck and without BatchNorm.

        rows = σ(gn(conv_k(means of x over each row)))           (N, C, H)
        columns = σ(gn(conv_k(means of x over each column)))     (N, C, W)
        gate = rows · columns                                    (N, C, H, W)
        y = x · gate

    conv_k is a depthwise 1-D convolution without bias; it and the group normalisation serve both
    axes, as in the authors' code. The defaults are the paper's ELA-B; ELA-T is `kernel_size=5,
    groups=32`. The number of groups is the largest divisor of C up to G; a group of a single
    value is normalised to zero. (`timm.layers.coord_attn.EfficientLocalAttn` differs: weights of
    its own for each axis, one group, and a SiLU before σ.)

    Parameters: k·C + 2·C.
    MACs: k·C·(H + W).

    Args:
        channels: C, at least 1.
        kernel_size: k, an odd integer ≥ 1.
        groups: G of the normalisation, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import EfficientLocalAttention
        >>> EfficientLocalAttention(64, kernel_size=7, groups=16)(torch.randn(2, 64, 14, 7)).shape
        torch.Size([2, 64, 14, 7])
    """

    last_layers = ("gate.norm",)
    halvings = 2

    def __init__(self, channels: int, kernel_size: int = 7, groups: int = 16) -> None:
        super().__init__()
        owner = "EfficientLocalAttention"
        count = channel_groups(owner, channels, groups)
        check_int(owner, "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True)
        self.gate = StripGate(channels, kernel_size, count)
