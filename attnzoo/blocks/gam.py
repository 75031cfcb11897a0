"""Global Attention Mechanism: gates for every value, first across channels, then across space.

Source: Y. Liu, Z. Shao, N. Hoffmann, "Global Attention Mechanism: Retain Information to Enhance
Channel-Spatial Interactions", 2021, arXiv 2112.05561.
Shapes: x and both gates (N, C, H, W).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import FLOOR, LARGEST, ConvNorm, Reduction, hidden_channels, pointwise
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["GlobalAttentionMechanism"]


class WideSpatialGate(nn.Module):
    """x (N, C, H, W) → gate of the same shape, from two large convolutions over all channels."""

    def __init__(self, channels: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.reduce = ConvNorm(channels, hidden, kernel_size, padding=padding)
        self.expand = ConvNorm(hidden, channels, kernel_size, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.expand(F.relu(self.reduce(x))))


@register_block(
    "gam",
    kind="both",
    title="Global Attention Mechanism",
    paper="Liu, Shao, Hoffmann: Global Attention Mechanism (2021)",
    year=2021,
    arxiv="2112.05561",
    maps={"channel_gate": "both", "spatial_gate": "both"},
    former={"floor": 1},
    neutral=True,
)
class GlobalAttentionMechanism(Gated):
    """Gates without pooling: a perceptron at each position, then two large convolutions.

        channel = σ(W₂ relu(W₁ x + b₁) + b₂) at each position                (N, C, H, W)
        z = x · channel
        spatial = σ(bn(conv_k×k(relu(bn(conv_k×k(z))))))                     (N, C, H, W)
        y = z · spatial
        both C → C//r → C

    σ after the perceptron is in the paper's figure 2; the authors' code leaves it out, which
    lets values change sign. Biases before a BatchNorm, which cancels them, are left out. In
    training, a single value per channel is normalised with the running statistics. The
    perceptron is initialised as `se`, the convolutions as PyTorch does.

    Parameters: 2·C·h + 2·k²·C·h + 3·h + 3·C, with h = max(C // r, f).
    MACs: H·W·(2·C·h + 2·k²·C·h).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        kernel_size: k, an odd integer ≥ 1.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import GlobalAttentionMechanism
        >>> GlobalAttentionMechanism(64, reduction=4)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    last_layers = ("channel_gate.fc2", "spatial_gate.expand.norm")
    halvings = 2

    def __init__(
        self, channels: int, reduction: Reduction = 4, kernel_size: int = 7, floor: int = FLOOR
    ) -> None:
        super().__init__()
        owner = "GlobalAttentionMechanism"
        hidden = hidden_channels(owner, channels, reduction, floor)
        check_int(owner, "kernel_size", kernel_size, minimum=1, maximum=LARGEST, odd=True)
        self.channel_gate = nn.Sequential(
            OrderedDict(
                fc1=pointwise(channels, hidden),
                relu=nn.ReLU(),
                fc2=pointwise(hidden, channels),
                sigmoid=nn.Sigmoid(),
            )
        )
        self.spatial_gate = WideSpatialGate(channels, hidden, kernel_size)

    def gates(self, x: Tensor) -> list[Tensor]:
        channel = self.channel_gate(x)
        return [channel, self.spatial_gate((x * channel).to(x.dtype))]
