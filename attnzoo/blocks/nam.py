"""NAM: the weights of a BatchNorm say how much each channel matters.

Source: Y. Liu, Z. Shao, Y. Teng, N. Hoffmann, "NAM: Normalization-based Attention Module", 2021,
arXiv 2111.12419.
Shapes: x and gate (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import batch_norm
from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["NormalizationAttention"]


class NormalizationGate(MapGate):
    """x (N, C, H, W) → gate of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    again = False  # it is x, and what is small

    def parts(self, x: Tensor) -> list[Tensor]:
        found = kernels.scale_and_shift(self.norm, x)
        if found is None:
            return [x]
        share = self._share().view(-1, 1, 1)
        return [x, *(share * t for t in found)]

    def layer(self) -> nn.Module:
        return self.norm

    def how(self) -> Callable[..., Tensor]:
        return self._weighted

    def _weighted(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        if scale is not None and shift is not None:
            return (x * scale).add_(shift).sigmoid_()
        normalised = batch_norm(self.norm, x)
        return (self._share().view(-1, 1, 1) * normalised).sigmoid_().to(x.dtype)

    def _share(self) -> Tensor:
        magnitude = self.norm.weight.abs()
        # the smallest normal number, so that weights that are all zero give no 0 / 0
        return magnitude / magnitude.sum().clamp(min=torch.finfo(magnitude.dtype).tiny)


@register_block(
    "nam",
    kind="both",
    title="Normalization-based Attention Module",
    paper="Liu, Shao, Teng, Hoffmann: NAM (2021)",
    year=2021,
    arxiv="2111.12419",
    maps={"gate": "both"},
    limits={
        "neutral": "The weights of the norm are its strength and its shares at once: at zero the "
        "shares are 0 / 0.",
    },
)
class NormalizationAttention(GatedByMap):
    """Gate for every value: its normalised value, weighted by its channel's share of the scales.

        share = |γ| / sum of |γ| over C,  γ the weights of bn
        gate = σ(share · bn(x))     (N, C, H, W)
        y = x · gate

    This is the paper's channel attention. Its spatial counterpart normalises pixels, with a
    weight for each: it would fit one map size only, and the authors' code leaves it out as well.
    The gradient flows through the shares (the authors' code detaches them, so that its gradient
    is not that of its output). In training, a single value per channel is normalised with the
    running statistics. The paper adds a sparsity penalty on γ to the loss; that is left to the
    training loop.

    Parameters: 2·C.
    MACs: 0.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import NormalizationAttention
        >>> NormalizationAttention(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("NormalizationAttention", "channels", channels, minimum=1)
        self.gate = NormalizationGate(channels)
