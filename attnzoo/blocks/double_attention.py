"""Double attention: gather features into a few descriptors, then hand each position its mixture.

Source: Y. Chen, Y. Kalantidis, J. Li, S. Yan, J. Feng, "A²-Nets: Double Attention Networks",
NeurIPS 2018, arXiv 1810.11579.
Shapes: x (N, C, H, W); both attentions (N, h, H·W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import Reduction, hidden_channels
from attnzoo.blocks.precision import add_residual, softmax
from attnzoo.registry import register_block

__all__ = ["DoubleAttention"]


class SoftmaxMaps(nn.Module):
    """x (N, C, H, W) → maps (N, h, H·W), a softmax over the axis `dim`."""

    def __init__(self, channels: int, hidden: int, dim: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(self.conv(x).flatten(2), self.dim)


@register_block(
    "a2",
    kind="context",
    title="Double Attention",
    paper="Chen, Kalantidis, Li, Yan, Feng: A²-Nets: Double Attention Networks (NeurIPS 2018)",
    year=2018,
    arxiv="1810.11579",
    maps={"gather": "pairwise", "distribute": "pairwise"},
    neutral=True,
)
class DoubleAttention(nn.Module):
    """Gathers h descriptors from the whole map, then mixes them anew for every position.

        gather = softmax over H·W of W_B x                     (N, h, H·W)
        distribute = softmax over h of W_V x + b_V             (N, h, H·W)
        descriptors = (W_A x + b_A) gatherᵀ                    (N, h, h)
        y = x + W_Z (descriptors · distribute) + b_Z           C → h → C

    Equations 2 to 5 of the paper, its two widths m and n both C // r with the paper's r = 4. The
    addition of x is the residual connection that the paper puts the block in; W_Z widens to C
    for it, as there. W_B has no bias, since the softmax over positions would cancel it.
    The convolutions keep PyTorch's default initialisation.

    Parameters: 4·C·h + 2·h + C, with h = max(C // r, 1).
    MACs: H·W·(4·C·h + 2·h²).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import DoubleAttention
        >>> DoubleAttention(64, reduction=4)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, channels: int, reduction: Reduction = 4) -> None:
        super().__init__()
        hidden = hidden_channels("DoubleAttention", channels, reduction)
        self.features = nn.Conv2d(channels, hidden, 1)
        self.gather = SoftmaxMaps(channels, hidden, dim=2, bias=False)
        self.distribute = SoftmaxMaps(channels, hidden, dim=1, bias=True)
        self.project = nn.Conv2d(hidden, channels, 1)

    def start_neutral(self) -> None:
        """Nothing is added to x at first: the last layer starts at zero."""
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        descriptors = torch.bmm(features.flatten(2), self.gather(x).transpose(1, 2))
        mixed = torch.bmm(descriptors, self.distribute(x)).view(features.shape)
        return add_residual(x, self.project(mixed))
