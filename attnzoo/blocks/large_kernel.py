"""Large-kernel attention: the map times its own convolution with a large decomposed kernel.

Sources: M.-H. Guo, C.-Z. Lu, Z.-N. Liu, M.-M. Cheng, S.-M. Hu, "Visual Attention Network",
Computational Visual Media 2023, arXiv 2202.09741 (`lka`).
Y. Li, Q. Hou, Z. Zheng, M.-M. Cheng, J. Yang, X. Li, "Large Selective Kernel Network for Remote
Sensing Object Detection", ICCV 2023, arXiv 2303.09030 (`lsk`).
Shapes: x and attention (N, C, H, W). The attention is not squashed: it may be negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import saturate, wide
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["LargeKernelAttention", "LargeSelectiveKernel"]


def near(channels: int) -> nn.Conv2d:
    """Depthwise 5×5."""
    return nn.Conv2d(channels, channels, 5, padding=2, groups=channels)


def far(channels: int) -> nn.Conv2d:
    """Depthwise 7×7, dilated by 3."""
    return nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)


class LargeKernel(nn.Module):
    """x (N, C, H, W) → attention of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = near(channels)
        self.far = far(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = saturate(self.far(saturate(self.near(x))))
        return saturate(self.mix(context)).to(x.dtype)


class LargeKernelGated(Gated):
    """x times an attention that is not squashed."""

    if TYPE_CHECKING:
        attention: nn.Module
    halvings = 0

    def start_neutral(self) -> None:
        """The attention is 1: its last layer has weights of zero and biases of one."""
        super().start_neutral()
        (path,) = self.last_layers
        nn.init.ones_(self.get_parameter(f"{path}.bias"))

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.attention(x)]

    def formula(self, x: Tensor, gamma: Tensor | None = None) -> Tensor:
        y = super().formula(x, gamma)
        if x.dtype != torch.float16:
            return y
        return torch.where(x.isfinite(), saturate(y), y)


@register_block(
    "lka",
    kind="both",
    title="Large Kernel Attention",
    paper="Guo, Lu, Liu, Cheng, Hu: Visual Attention Network (CVMJ 2023)",
    year=2023,
    arxiv="2202.09741",
    maps={"attention": "both"},
    neutral=True,
)
class LargeKernelAttention(LargeKernelGated):
    """The map times its own convolution with a 21×21 kernel, decomposed in three.

        attention = conv1×1(dilated 7×7 depthwise(5×5 depthwise(x)))     (N, C, H, W)
        y = x · attention

    Dilation 3; all three with bias. The attention has no sigmoid, as in the paper: outputs grow
    with the square of the inputs. What leaves the range of float16 is held at its ends. The
    projections and the residual sum around it in the paper's network are not part of the block.
    All weights have PyTorch's default initialisation.

    Parameters: C² + 77·C.
    MACs: H·W·(C² + 74·C).

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LargeKernelAttention
        >>> LargeKernelAttention(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("attention.mix",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("LargeKernelAttention", "channels", channels, minimum=1)
        self.attention = LargeKernel(channels)


class SelectiveKernel(nn.Module):
    """x (N, C, H, W) → attention of the same shape, from two kernels chosen at each position."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.near = near(channels)
        self.far = far(channels)
        self.near_reduce = nn.Conv2d(channels, hidden, 1)
        self.far_reduce = nn.Conv2d(channels, hidden, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = saturate(self.near(x))
        far = saturate(self.far(near))
        near, far = saturate(self.near_reduce(near)), saturate(self.far_reduce(far))
        both = torch.cat([near, far], dim=1)
        pooled = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)
        # Wide: its gradient is a sum over the channels, which float16 could not hold.
        selection = torch.sigmoid(wide(self.select(pooled)))  # (N, 2, H, W)
        selected = (near * selection[:, :1] + far * selection[:, 1:]).to(near.dtype)
        return saturate(self.expand(saturate(selected))).to(x.dtype)


@register_block(
    "lsk",
    kind="both",
    title="Large Selective Kernel",
    paper="Li, Hou, Zheng, Cheng, Yang, Li: Large Selective Kernel Network (ICCV 2023)",
    year=2023,
    arxiv="2303.09030",
    maps={"attention": "both"},
    neutral=True,
)
class LargeSelectiveKernel(LargeKernelGated):
    """The map times a convolution of it, near and far context weighed at each position.

        near = 5×5 depthwise(x)
        far = 7×7 depthwise, dilated by 3 (near)
        u, v = conv1×1(near), conv1×1(far)                                   C → C//2
        s = σ(conv7×7([mean of u, v over channels; maximum of u, v]))        (N, 2, H, W)
        attention = conv1×1(u · s₁ + v · s₂)                                 C//2 → C
        y = x · attention

    All convolutions with bias. The attention has no sigmoid, as in the authors' code: outputs
    grow with the square of the inputs. What leaves the range of float16 is held at its ends. All
    weights have PyTorch's default initialisation.

    Parameters: 3·C·h + 77·C + 2·h + 198, with h = max(C // 2, 1).
    MACs: H·W·(3·C·h + 74·C + 196).

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LargeSelectiveKernel
        >>> LargeSelectiveKernel(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("attention.expand",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("LargeSelectiveKernel", "channels", channels, minimum=1)
        self.attention = SelectiveKernel(channels, max(channels // 2, 1))
