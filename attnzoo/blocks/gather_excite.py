"""Gather-Excite: gather context over an extent of the map, excite (gate) the features with it.

Source: J. Hu, L. Shen, S. Albanie, G. Sun, A. Vedaldi, "Gather-Excite: Exploiting Feature Context
in Convolutional Neural Networks", NeurIPS 2018, arXiv 1810.12348.
Shapes: x (N, C, H, W); gathered (N, C, H', W'); gate (N, C, 1, 1) for the global extent, else
(N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import (
    FLOOR,
    LARGEST,
    ConvNorm,
    Reduction,
    batch_norm,
    hidden_channels,
    pointwise,
    wide,
)
from attnzoo.checks import check_choice, check_int
from attnzoo.errors import OptionError
from attnzoo.registry import register_block

__all__ = ["GatherExcite"]

Extent = int | Literal["global"]
Variant = Literal["minus", "theta", "plus"]
OWNER = "GatherExcite"


class MeanGather(nn.Module):
    """Means over overlapping windows of `2·extent − 1`, every `extent`; or over the whole map."""

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent

    def forward(self, x: Tensor) -> Tensor:
        if self.extent == "global":
            return kernels.mean(x, [2, 3])
        size, padding = 2 * self.extent - 1, self.extent - 1
        return F.avg_pool2d(x, size, self.extent, padding, count_include_pad=False)


class StridedGather(nn.Sequential):
    """log₂(extent) depthwise 3×3 convolutions of stride 2, each normalised, relu between."""

    def __init__(self, channels: int, extent: int) -> None:
        super().__init__()
        for step in range(int(math.log2(extent))):
            if step:
                self.append(nn.ReLU())
            self.append(ConvNorm(channels, channels, 3, stride=2, padding=1, groups=channels))


class GlobalGather(nn.Module):
    """One depthwise convolution as large as the map, its kernel resampled to the map's size."""

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, resolution, resolution))
        self.norm = nn.BatchNorm2d(channels)
        bound = 1 / resolution  # PyTorch's own initialisation of a convolution of this size
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        (sums,) = kernels.recomputed(self._weighted, x, self.weight)
        return batch_norm(self.norm, sums)

    def _weighted(self, x: Tensor, weight: Tensor) -> tuple[Tensor]:
        """Sums over the map, weighted by the kernel at its size, which nobody keeps."""
        height, width = x.shape[2:]
        rows, columns = self._resampling(height), self._resampling(width)
        kernel = rows @ weight[:, 0] @ columns.t()
        # A mean times the area of the stored kernel: at that size the plain sum, elsewhere as large
        return (kernels.mean(x * kernel, [2, 3]) * weight[0].numel(),)

    def _resampling(self, size: int) -> Tensor:
        """Bilinear interpolation of the stored kernel at `size` points, as a (size, stored) matrix.

        A product with it is deterministic on every device; the backward pass of `interpolate` on
        CUDA is not.
        """
        resolution = self.weight.shape[-1]
        places = torch.arange(size, device=self.weight.device, dtype=wide(self.weight).dtype)
        places = ((places + 0.5) * resolution / size - 0.5).clamp(0, resolution - 1)
        stored = torch.arange(resolution, device=places.device, dtype=places.dtype)
        return (1 - (places[:, None] - stored).abs()).clamp(min=0).to(self.weight.dtype)


def enlarged(x: Tensor, gate: Tensor) -> Tensor:
    """The gate at the size of x, each position taking the nearest one."""
    return F.interpolate(gate, size=x.shape[2:])


class GatherExciteGate(MapGate):
    """x (N, C, H, W) → gate, (N, C, 1, 1) for the global extent, else (N, C, H, W)."""

    def __init__(
        self, channels: int, hidden: int, variant: Variant, extent: Extent, resolution: int
    ) -> None:
        super().__init__()
        self.extent = extent
        if variant == "minus":
            self.gather: nn.Module = MeanGather(extent)
        elif extent == "global":
            self.gather = GlobalGather(channels, resolution)
        else:
            self.gather = StridedGather(channels, extent)
        self.excite = nn.Sequential()
        if variant == "plus":
            self.excite.append(pointwise(channels, hidden))
            self.excite.append(nn.ReLU())
            self.excite.append(pointwise(hidden, channels))

    again = False  # small

    def parts(self, x: Tensor) -> list[Tensor]:
        gate = torch.sigmoid(self.excite(self.gather(x)))
        return [gate] if self.extent == "global" else [x, gate]

    def how(self) -> Callable[..., Tensor]:
        return kernels.times if self.extent == "global" else enlarged


@register_block(
    "ge",
    kind="channel",
    title="Gather-Excite",
    paper="Hu, Shen, Albanie, Sun, Vedaldi: Gather-Excite (NeurIPS 2018)",
    year=2018,
    arxiv="1810.12348",
    maps={"gate": "channel"},
    limits={
        "export": "torch.export fixes whether the gathered map has a height and a width of 1. With "
        "an extent, a program exported from a map larger than the extent on both sides takes all "
        "such maps, and no others; with the global extent, the default, it takes every size.",
    },
    former={"floor": 1},
    neutral=True,
    limited_with={"export": {"extent": 4}},
)
class GatherExcite(GatedByMap):
    """Gate from context gathered per channel, over the whole map or over windows of an extent.

        gate = σ(interpolate(excite(gather(x))))
        y = x · gate
        "minus" (θ−):  gather means;                  excite nothing: no parameters at all
        "theta" (θ):   gather by depthwise conv;      excite nothing
        "plus" (θ+):   gather by depthwise conv;      excite W₂ relu(W₁ v + b₁) + b₂, C → C//r → C

    Means are taken over the whole map, or over windows of 2e − 1 every e positions for an extent
    of e. The convolutions for an extent of e are log₂ e depthwise 3×3 ones of stride 2, each
    followed by a BatchNorm, with a relu between; for the global extent one depthwise convolution
    as large as the map, with a BatchNorm. Interpolation is to the nearest position, so the gate
    is (N, C, 1, 1) for the global extent and (N, C, H, W) otherwise.

    The paper's global convolution exists at one map size only. Here its kernel is stored at
    `resolution` × `resolution` and interpolated bilinearly to H×W, the sum over the map taken as
    a mean times the stored area; where H = W = `resolution` that is the paper's layer exactly.
    θ− is equal to `timm.layers.GatherExcite(extra_params=False, use_mlp=False)`. In training, a
    single value per channel (N = 1 with the global extent) is normalised with the running
    statistics, because it has no variance.

    Parameters: s²·C + 2·C + 2·C·h + h + C, with h = max(C // r, f).
    MACs: s²·C·H + s·C·H·W + 2·C·h.

    (Both for the defaults: θ+ and the global extent.)

    Args:
        channels: C, at least 1.
        variant: `"minus"`, `"theta"` or `"plus"`.
        extent: e, a power of 2 of at least 2, or `"global"`.
        reduction: r of θ+, an integer ≥ 1, or `"auto"` for a width that follows C.
        resolution: s, an integer ≥ 1; of the stored kernel for the global extent.
        floor: f of θ+, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import GatherExcite
        >>> x = torch.randn(2, 64, 14, 14)
        >>> GatherExcite(64)(x).shape
        torch.Size([2, 64, 14, 14])
        >>> light = GatherExcite(64, variant="minus", extent=4)
        >>> sum(p.numel() for p in light.parameters()), light.gate(x).shape
        (0, torch.Size([2, 64, 14, 14]))
    """

    def __init__(
        self,
        channels: int,
        variant: Variant = "plus",
        extent: Extent = "global",
        reduction: Reduction = 16,
        resolution: int = 7,
        floor: int = FLOOR,
    ) -> None:
        super().__init__()
        hidden = hidden_channels(OWNER, channels, reduction, floor)
        check_choice(OWNER, "variant", variant, ("minus", "theta", "plus"))
        check_int(OWNER, "resolution", resolution, minimum=1, maximum=LARGEST)
        if extent != "global":
            check_int(OWNER, "extent", extent, minimum=2, maximum=LARGEST, alternative="'global'")
            if extent & (extent - 1):
                raise OptionError(f"{OWNER}: extent={extent} must be a power of 2, or 'global'.")
        self.gate = GatherExciteGate(channels, hidden, variant, extent, resolution)
        if variant == "plus":
            self.last_layers = ("gate.excite.2",)
        elif variant == "theta":
            norms = [path for path, m in self.named_modules() if isinstance(m, nn.BatchNorm2d)]
            self.last_layers = (norms[-1],)
