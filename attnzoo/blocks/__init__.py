"""Attention blocks, one family a file. Importing this package registers them all."""

from attnzoo.blocks.cbam import CBAM
from attnzoo.blocks.controls import ChannelAffine, NoAttention
from attnzoo.blocks.eca import EfficientChannelAttention
from attnzoo.blocks.local import LocalAttention
from attnzoo.blocks.squeeze_excitation import SqueezeExcitation

__all__ = [
    "CBAM",
    "ChannelAffine",
    "EfficientChannelAttention",
    "LocalAttention",
    "NoAttention",
    "SqueezeExcitation",
]
