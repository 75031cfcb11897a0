"""BAM: a channel branch and a dilated spatial branch, summed into one gate; added to the input.

Source: J. Park, S. Woo, J.-Y. Lee, I. S. Kweon, "BAM: Bottleneck Attention Module", BMVC 2018,
arXiv 1807.06514.
Shapes: x and gate (N, C, H, W); channel branch (N, C, 1, 1); spatial branch (N, 1, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import (
    FLOOR,
    LARGEST,
    ConvNorm,
    Reduction,
    batch_norm,
    hidden_channels,
)
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["BAM"]


def sigmoid_of_sum(channel: Tensor, spatial: Tensor) -> Tensor:
    if kernels.is_exported(channel):  # OpenCV's dnn 5.0 refuses the sum of one channel with many
        size = (1, channel.shape[1], 1, 1)
        spatial = spatial * torch.ones(size, dtype=channel.dtype, device=channel.device)
    return (channel + spatial).sigmoid_()


def one_and_sigmoid_of_sum(channel: Tensor, spatial: Tensor) -> Tensor:
    gate = sigmoid_of_sum(channel, spatial)
    return gate + 1 if gate.requires_grad or kernels.is_exported(gate) else gate.add_(1)


class BamGate(MapGate):
    """x (N, C, H, W) → gate of the same shape."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        dilated = {"kernel_size": 3, "padding": dilation, "dilation": dilation}
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvNorm(channels, hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )
        self.spatial = nn.Sequential(
            ConvNorm(channels, hidden),
            nn.ReLU(),
            ConvNorm(hidden, hidden, **dilated),
            nn.ReLU(),
            ConvNorm(hidden, hidden, **dilated),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def how(self) -> Callable[..., Tensor]:
        return sigmoid_of_sum

    def parts(self, x: Tensor) -> list[Tensor]:
        return [self._channel(x), self.spatial(x)]

    def kept_parts(self, x: Tensor) -> Sequence[Tensor]:
        """Where they are thin, what the first two convolutions give is kept: an eighth of x."""
        first, relu, second, *rest = self.spatial
        as_built = isinstance(first, ConvNorm) and isinstance(second, ConvNorm)
        if not as_built or 16 * first.conv.out_channels > x.shape[1]:
            return super().kept_parts(x)
        found = kernels.convolved(
            lambda found: relu(batch_norm(first.norm, found)),
            first.conv(x),
            second.conv,
            module=first.norm,
        )

        def the_rest(found: Tensor) -> list[Tensor]:
            found = batch_norm(second.norm, found)
            for layer in rest:
                found = layer(found)
            return [found]

        return [self._channel(x), *kernels.recomputed(the_rest, found, module=self.spatial)]

    def _channel(self, x: Tensor) -> Tensor:
        return self.channel(kernels.before_mean(x, self.channel))


@register_block(
    "bam",
    kind="both",
    title="Bottleneck Attention Module",
    paper="Park, Woo, Lee, Kweon: BAM (BMVC 2018)",
    year=2018,
    arxiv="1807.06514",
    maps={"gate": "both"},
    former={"floor": 1},
    limits={
        "neutral": "The gate is 1 + σ, which is never 1; at logits of zero it is 1½.",
    },
)
class BAM(GatedByMap):
    """Channel and spatial branch, summed, squashed, and added: the input is never lost.

        channel = W₂ relu(bn(W₁ (mean of x over H, W))) + b₂                 (N, C, 1, 1)
        spatial = conv1×1(layer3×3(layer3×3(layer1×1(x))))                   (N, 1, H, W)
        gate = σ(channel + spatial)                                          (N, C, H, W)
        y = x + x · gate
        layer(v) = relu(bn(conv(v))),  C → C//r channels, 3×3 ones dilated by d

    Channel and spatial branch are added as in the paper's equation 2 (the authors' code
    multiplies them). The layers are those of the authors' code, with BatchNorm and relu after
    each hidden one; the paper's equations 3 and 4 write a single BatchNorm at the end. Biases
    before a BatchNorm, which cancels them, are left out. In training, a single value per channel
    (the channel branch at N = 1) is normalised with the running statistics. All weights have
    PyTorch's default initialisation.

    Parameters: 2·C·h + C + 18·h² + 9·h + 1 + C·h, with h = max(C // r, f).
    MACs: 2·C·h + H·W·(C·h + 18·h² + h).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        dilation: d of the 3×3 convolutions, an integer ≥ 1.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import BAM
        >>> BAM(64, reduction=16, dilation=4)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self, channels: int, reduction: Reduction = 16, dilation: int = 4, floor: int = FLOOR
    ) -> None:
        super().__init__()
        hidden = hidden_channels("BAM", channels, reduction, floor)
        check_int("BAM", "dilation", dilation, minimum=1, maximum=LARGEST)
        self.gate = BamGate(channels, hidden, dilation)

    def gates(self, x: Tensor) -> list[Tensor]:
        return [1 + self.gate(x)]

    def how(self) -> Callable[..., Tensor]:
        return one_and_sigmoid_of_sum
