"""CBAM: a channel gate from mean and maximum, then a spatial gate from mean and maximum.

The spatial gate is also a block of its own.

Source: S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, "CBAM: Convolutional Block Attention Module",
ECCV 2018, arXiv 1807.06521.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import FLOOR, LARGEST, Reduction, batch_norm, hidden_channels
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["CBAM", "SpatialAttention"]


class ChannelGate(nn.Module):
    """x (N, C, H, W) → channel gate (N, C, 1, 1): one perceptron on mean and on maximum."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        # Not AdaptiveMaxPool2d, whose backward pass is not deterministic on CUDA.
        return self.gate(*kernels.mean_and_maximum(x, (2, 3)))

    def gate(self, mean: Tensor, maximum: Tensor) -> Tensor:
        """From mean and maximum over H and W."""
        mean, maximum = kernels.through_pixels(self.mlp, [mean, maximum])
        return torch.sigmoid(mean + maximum)


class SpatialGate(nn.Module):
    """x (N, C, H, W) → spatial gate (N, 1, H, W): k×k convolution on mean and maximum over C.

    With a channel gate: of x times that, which is a map that nobody keeps.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor, channel: Tensor | None = None) -> Tensor:
        return self.gate(torch.cat(kernels.mean_and_maximum(x, (1,), channel), dim=1))

    def gate(self, statistics: Tensor) -> Tensor:
        """From mean and maximum over C, (N, 2, H, W)."""
        logits = kernels.into_one_map(self.conv, statistics)
        return torch.sigmoid(batch_norm(self.norm, logits))


@register_block(
    "cbam",
    kind="both",
    title="Convolutional Block Attention Module",
    paper="Woo, Park, Lee, Kweon: CBAM (ECCV 2018)",
    year=2018,
    arxiv="1807.06521",
    maps={"channel_gate": "channel", "spatial_gate": "spatial"},
    former={"floor": 1},
    neutral=True,
)
class CBAM(Gated):
    """Channel gate, then spatial gate; each looks at means and maxima.

        channel = σ(mlp(mean of x over H, W) + mlp(maximum of x over H, W))    (N, C, 1, 1)
        z = x · channel
        spatial = σ(bn(conv_k×k([mean of z over C; maximum of z over C])))     (N, 1, H, W)
        y = z · spatial
        mlp(v) = W₂ relu(W₁ v),  C → C//r → C, the same for mean and maximum

    The arithmetic is that of `timm.layers.cbam.CbamModule`. The perceptron has no bias, as in the
    paper's equation 2 and in timm (the authors' code has biases). The BatchNorm after the k×k
    convolution is not in the paper's equation 3 but is in the authors' code and in timm; its
    weight starts at 1 as in timm, where the authors' ResNet starts it at 0, so that the
    convolution before it learns from the first step. Input order is mean, maximum, as in the
    paper. In training, one single value (N = H = W = 1) is normalised with the running
    statistics, because it has no variance. All weights have PyTorch's default initialisation,
    as in timm.

    Parameters: 2·C·h + 2·k² + 2, with h = max(C // r, f).
    MACs: 4·C·h + 2·k²·H·W.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        kernel_size: k of the spatial gate, an odd integer ≥ 1.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import CBAM
        >>> CBAM(64, reduction=16, kernel_size=7)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("channel_gate.mlp.2", "spatial_gate.norm")
    kind = "cbam"
    halvings = 2

    def __init__(
        self,
        channels: int,
        reduction: Reduction = 16,
        kernel_size: int = 7,
        floor: int = FLOOR,
    ) -> None:
        super().__init__()
        hidden = hidden_channels("CBAM", channels, reduction, floor)
        self.channel_gate = ChannelGate(channels, hidden)
        self.spatial_gate = SpatialGate(
            check_int("CBAM", "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True)
        )

    def gates(self, x: Tensor) -> list[Tensor]:
        channel = self.channel_gate(x)
        return [channel, self.spatial_gate(x, channel)]

    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor:
        mean, maximum, later = kernels.reduce_planes(x)
        channel = self.channel_gate.gate(mean, maximum)
        statistics, later = kernels.reduce_pixels(x, later, channel)
        spatial = self.spatial_gate.gate(statistics)
        return kernels.apply_gates(x, later, channel, spatial, gamma, pool, self.scale)


@register_block(
    "spatial",
    kind="spatial",
    title="Spatial attention of CBAM",
    paper="Woo, Park, Lee, Kweon: CBAM (ECCV 2018)",
    year=2018,
    arxiv="1807.06521",
    maps={"gate": "spatial"},
    neutral=True,
)
class SpatialAttention(Gated):
    """The spatial gate of CBAM alone.

        gate = σ(bn(conv_k×k([mean of x over C; maximum of x over C])))     (N, 1, H, W)
        y = x · gate

    The arithmetic is that of `timm.layers.cbam.SpatialAttn`. What is said there of the BatchNorm
    and of a single value in training holds here too: see `CBAM`.

    Parameters: 2·k² + 2.
    MACs: 2·k²·H·W.

    Args:
        channels: C, at least 1.
        kernel_size: k, an odd integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import SpatialAttention
        >>> SpatialAttention(64, kernel_size=7)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    last_layers = ("gate.norm",)
    kind = "spatial"

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        check_int("SpatialAttention", "channels", channels, minimum=1)
        check_int(
            "SpatialAttention", "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True
        )
        self.gate = SpatialGate(kernel_size)

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]

    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor:
        statistics, later = kernels.reduce_pixels(x, None, None)
        spatial = self.gate.gate(statistics)
        return kernels.apply_gates(x, later, None, spatial, gamma, pool, self.scale)
