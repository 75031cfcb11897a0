"""Style-based Recalibration Module: a channel gate from the mean and deviation of each channel.

Source: H. Lee, H.-E. Kim, H. Nam, "SRM: A Style-based Recalibration Module for Convolutional
Neural Networks", ICCV 2019, arXiv 1903.10829.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import batch_norm, wide
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["StyleRecalibration"]

EPSILON = 1e-5  # of the authors' code, so that the root has a derivative where x is constant


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over H and W."""
    values = wide(x)
    mean = kernels.mean(values, [2, 3])
    return mean, (kernels.deviation(values - mean, (2, 3)).square() + EPSILON).sqrt()


class StyleGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style_weight = nn.Parameter(torch.zeros(2, channels, 1, 1))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = kernels.recomputed(moments, x)
        style = self.style_weight[0] * mean + self.style_weight[1] * deviation
        return torch.sigmoid(batch_norm(self.norm, style.to(self.norm.weight.dtype))).to(x.dtype)


@register_block(
    "srm",
    kind="channel",
    title="Style-based Recalibration Module",
    paper="Lee, Kim, Nam: SRM (ICCV 2019)",
    year=2019,
    arxiv="1903.10829",
    maps={"gate": "channel"},
    neutral=True,
)
class StyleRecalibration(Gated):
    """Channel gate from the style of each channel: its mean and its standard deviation.

        μ, σ² = mean and variance of x over H, W
        gate = sigmoid(bn(w₁ · μ + w₂ · √(σ² + ε)))     (N, C, 1, 1)
        y = x · gate

    w₁ and w₂ are one number per channel and start at 0, as in the authors' code; ε is 1e-5. The
    variance is the paper's, divided by H·W (the authors' code divides by H·W − 1, which is
    undefined at 1×1), and is computed in float32 at least. In training with N = 1, where a
    channel has a single value, the running statistics normalise it.

    Parameters: 4·C.
    MACs: 0.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import StyleRecalibration
        >>> StyleRecalibration(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("StyleRecalibration", "channels", channels, minimum=1)
        self.gate = StyleGate(channels)

    def start_neutral(self) -> None:
        self.scale = 2.0  # w₁ and w₂ are zero as it is

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]
