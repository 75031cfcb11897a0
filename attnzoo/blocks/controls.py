"""Controls: blocks without attention, for studies that ask what attention itself contributes.

Source: none; the affine map is the learnable part of a normalisation layer.
Shapes: x (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.checks import check_int
from attnzoo.registry import register_block

__all__ = ["ChannelAffine", "NoAttention"]


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
        y = x * self.scale.view(-1, 1, 1) + self.shift.view(-1, 1, 1)
        return y.to(x.dtype)
