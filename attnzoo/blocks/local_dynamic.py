"""LocalAttention whose hidden width is learned: a gate on every hidden unit, closed where useless.

Source: attnzoo. The gates are the scaling factors of Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan,
C. Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
arXiv 1708.06519.
Shapes: x (N, C, H, W); channel gate (N, C, 1, 1); spatial gate (N, 1, H, W).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.blocks.gated import Gated
from attnzoo.blocks.parts import FLOOR, NEAR_UNIFORM, Reduction, hidden_channels, pointwise
from attnzoo.registry import register_block

__all__ = ["GatedUnits", "LocalDynamicAttention"]


class GatedUnits(nn.Module):
    """`reduce` → relu → a gate per hidden unit → `expand`."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = pointwise(in_channels, hidden)
        self.openness = nn.Parameter(torch.ones(hidden))
        self.expand = pointwise(hidden, out_channels, scale=NEAR_UNIFORM)

    @property
    def gates(self) -> Tensor:
        """One number ≥ 0 per hidden unit; 0 for a unit that is switched off."""
        return torch.relu(self.openness)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(torch.relu(self.reduce(x)) * self.gates.view(-1, 1, 1))

    @torch.no_grad()
    def kept(self, units: Tensor) -> dict[str, Tensor]:
        """The parameters, by name, that remain of the hidden units numbered `units`."""
        rows = dict.fromkeys(("reduce.weight", "reduce.bias", "openness"), (units,))
        places = {**rows, "expand.weight": (slice(None), units)}
        return {name: self.get_parameter(name)[place].clone() for name, place in places.items()}

    def put(self, parameters: dict[str, Tensor]) -> None:
        """Replace parameters by those of another width, named as `kept` returns them."""
        for name, tensor in parameters.items():
            path, _, leaf = name.rpartition(".")
            trained = self.get_parameter(name).requires_grad
            setattr(self.get_submodule(path), leaf, nn.Parameter(tensor, trained))
        self.reduce.out_channels = self.expand.in_channels = self.openness.numel()

    def fits_state(self, state: Mapping[str, Tensor], prefix: str = "") -> bool:
        """Whether `state` holds these parameters, at whatever hidden width of at least 1."""
        own = {name: list(parameter.shape) for name, parameter in self.named_parameters()}
        given = {name: list(state[prefix + name].shape) for name in own if prefix + name in state}
        if given.keys() != own.keys() or len(given["openness"]) != 1:
            return False
        (width,) = given["openness"]
        own["reduce.weight"][0] = own["expand.weight"][1] = width
        own["reduce.bias"] = own["openness"] = [width]
        return width >= 1 and given == own

    def _load_from_state_dict(  # ty: ignore[incompatible-method-override]  # a private method
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        """Take on the width of what is loaded first: a shrunken block's weights load too."""
        if self.fits_state(state_dict, prefix):
            width = state_dict[f"{prefix}openness"].numel()
            if width != self.openness.numel():
                # The rows are placeholders, written over by the children's own loading.
                self.put(self.kept(self.openness.new_zeros(width, dtype=torch.long)))
        super()._load_from_state_dict(state_dict, prefix, *args)


@register_block(
    "local-dynamic",
    kind="both",
    title="LocalAttention of learned width",
    paper="LocalAttention, with the scaling factors of Liu et al.: Network Slimming (ICCV 2017)",
    year=2017,
    arxiv="1708.06519",
    maps={"channel_attention": "channel", "spatial_attention": "spatial"},
    former={"floor": 1},
    neutral=True,
)
class LocalDynamicAttention(Gated):
    """LocalAttention that learns how wide it should be.

        channel = σ(W₂ (g · relu(W₁ (mean of x over H, W) + b₁)) + b₂)    (N, C, 1, 1), C → h → C
        spatial = σ(W₄ (q · relu(W₃ x + b₃)) + b₄)                        (N, 1, H, W), C → h → 1
        y = x · channel · spatial
        g, q = relu of one learned number per hidden unit, starting at 1

    Train with `attnzoo.sparsity_penalty(model)` times a factor added to the loss: it pulls all
    numbers down at the same pace, and where a unit does not pay for itself, its gate reaches
    zero. `attnzoo.shrink(model)` then removes those units for good.

    Network Slimming gates channels by the scale of their BatchNorm and cuts those nearest to zero,
    which changes the outputs a little. Here a relu makes the closed gates exactly zero, so that
    cutting them changes nothing. A gate that has closed gets no gradient and stays closed.
    h is where training starts from, so the default is twice LocalAttention's width.

    Parameters: 3·C·h + 5·h + C + 1, with h = max(C // r, f).
    MACs: H·W·(C·h + h) + 2·C·h.

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.
        floor: f, the fewest hidden units, an integer ≥ 1.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import LocalDynamicAttention
        >>> block = LocalDynamicAttention(64, reduction=4)
        >>> block(torch.randn(2, 64, 14, 14)).shape, block.widths
        (torch.Size([2, 64, 14, 14]), (16, 16))
    """

    last_layers = ("channel_attention.units.expand", "spatial_attention.units.expand")
    halvings = 2

    def __init__(self, channels: int, reduction: Reduction = 4, floor: int = FLOOR) -> None:
        super().__init__()
        hidden = hidden_channels("LocalDynamicAttention", channels, reduction, floor)
        self.channel_attention = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                units=GatedUnits(channels, hidden, channels),
                sigmoid=nn.Sigmoid(),
            )
        )
        self.spatial_attention = nn.Sequential(
            OrderedDict(units=GatedUnits(channels, hidden, 1), sigmoid=nn.Sigmoid())
        )

    @property
    def widths(self) -> tuple[int, int]:
        """Hidden units of the channel gate and of the spatial gate, closed ones included."""
        channel = self.channel_attention.get_parameter("units.openness")
        return channel.numel(), self.spatial_attention.get_parameter("units.openness").numel()

    def gates(self, x: Tensor) -> list[Tensor]:
        channel = self.channel_attention(kernels.before_mean(x, self.channel_attention))
        return [channel, self.spatial_attention(x)]
