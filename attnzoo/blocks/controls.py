"""Controls: blocks without attention, for studies that ask what attention itself contributes.

Source: none; the affine map is the learnable part of a normalisation layer, the convolution that of
a bottleneck.
Shapes: x (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import pointwise
from attnzoo.blocks.precision import add_residual
from attnzoo.checks import check_choice, check_int
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS, register_block

__all__ = ["ChannelAffine", "NoAttention", "ResidualBottleneck"]


@register_block("none", kind="control", title="No attention", identity_at_init=True)
class NoAttention(nn.Module):
    """Returns its input: the insertion without the block.

        y = x

    Parameters: 0.
    MACs: 0.

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import NoAttention
        >>> x = torch.randn(2, 64, 14, 14)
        >>> NoAttention(64)(x) is x
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("NoAttention", "channels", channels, minimum=1)

    def forward(self, x: Tensor) -> Tensor:
        return x


@register_block("affine", kind="control", title="Channel affine", identity_at_init=True)
class ChannelAffine(nn.Module):
    """A learnable scale and shift per channel: added capacity that looks at nothing.

        y = x · scale + shift     scale, shift (C,), starting at 1 and 0

    Computed in the wider of the two dtypes and returned in that of x, since 1 + a small step
    is still 1 in bfloat16.

    Parameters: 2·C.
    MACs: 0.

    (MACs count convolutions and matrix products only, as `torch.utils.flop_counter` does.)

    Args:
        channels: C, at least 1.

    Raises:
        OptionError: if `channels` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import ChannelAffine
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(ChannelAffine(64)(x), x)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("ChannelAffine", "channels", channels, minimum=1)
        self.scale = nn.Parameter(torch.ones(channels))
        # x + (−0) is x bit for bit; x + 0 would turn a negative zero of x into a positive one
        self.shift = nn.Parameter(torch.full((channels,), -0.0))

    def forward(self, x: Tensor) -> Tensor:
        y = (x * self.scale.view(-1, 1, 1)).add_(self.shift.view(-1, 1, 1))
        return y.to(x.dtype)


@register_block("conv", kind="control", title="Residual bottleneck of equal size", neutral=True)
class ResidualBottleneck(nn.Module):
    """As many parameters as an attention block, spent on convolutions that gate nothing.

        y = x + W₂ relu(W₁ x + b₁) + b₂     1×1 convolutions, C → h → C

    h is the width whose parameter count comes nearest to that of the block `like`, built for the
    same C with `like_options`. One unit more or less is 2·C + 1 parameters, so the counts differ
    by at most C + ½ (`difference` says by how many), except for blocks smaller than the narrowest
    bottleneck, of h = 1 with 3·C + 1 parameters: against `eca` or `affine` this is too large a
    control. Weights start by He's initialisation, biases at zero.

    Parameters: 2·C·h + h + C, with h = max(round((parameters(like, C) - C) / (2·C + 1)), 1).
    MACs: 2·C·h·H·W.

    Args:
        channels: C, at least 1.
        like: name of the block whose parameter count is to be matched.
        like_options: the options of that block; None for its defaults.

    Attributes:
        difference: parameters of this block less those of the other one.

    Raises:
        OptionError: if an argument is out of range or the block refuses its options.

    Example:
        >>> import attnzoo
        >>> block = attnzoo.create_block("conv", 64, like="local", like_options={"reduction": 4})
        >>> block.difference, block.reduce.out_channels
        (-25, 24)
    """

    def __init__(
        self, channels: int, like: str = "local", like_options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        owner = "ResidualBottleneck"
        check_int(owner, "channels", channels, minimum=1)
        if not (isinstance(like, str) and like.startswith("timm:")):
            check_choice(owner, "like", like, [name for name in BLOCKS.names() if name != "conv"])
        if not (like_options is None or isinstance(like_options, Mapping)):
            raise OptionError(
                f"{owner}: like_options={like_options!r} must be a mapping of options, or None."
            )
        with torch.device("meta"):
            other = BLOCKS[like].build(channels, **(like_options or {}))
        wanted = sum(parameter.numel() for parameter in other.parameters())
        hidden = max(round((wanted - channels) / (2 * channels + 1)), 1)
        self.reduce = pointwise(channels, hidden)
        self.expand = pointwise(hidden, channels)
        self.difference = sum(parameter.numel() for parameter in self.parameters()) - wanted

    def start_neutral(self) -> None:
        """Nothing is added to x at first: the last layer starts at zero."""
        for parameter in self.expand.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(x, self.expand(torch.relu(self.reduce(x))))

    def extra_repr(self) -> str:
        return f"difference={self.difference}"
