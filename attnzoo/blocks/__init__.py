"""Attention blocks, one family a file. Importing this package registers them all."""

from attnzoo.blocks.bam import BAM
from attnzoo.blocks.cbam import CBAM, SpatialAttention
from attnzoo.blocks.controls import ChannelAffine, NoAttention
from attnzoo.blocks.coordinate import CoordinateAttention
from attnzoo.blocks.eca import EfficientChannelAttention
from attnzoo.blocks.ela import EfficientLocalAttention
from attnzoo.blocks.ema import EfficientMultiScaleAttention
from attnzoo.blocks.gam import GlobalAttentionMechanism
from attnzoo.blocks.gather_excite import GatherExcite
from attnzoo.blocks.gct import GatedChannelTransformation
from attnzoo.blocks.grn import GlobalResponseNorm
from attnzoo.blocks.large_kernel import LargeKernelAttention, LargeSelectiveKernel
from attnzoo.blocks.lct import LinearContextTransform
from attnzoo.blocks.local import LocalAttention
from attnzoo.blocks.nam import NormalizationAttention
from attnzoo.blocks.polarized import PolarizedSelfAttention
from attnzoo.blocks.scse import ConcurrentSqueezeExcitation
from attnzoo.blocks.sge import SpatialGroupEnhance
from attnzoo.blocks.shuffle import ShuffleAttention
from attnzoo.blocks.simam import SimAM
from attnzoo.blocks.squeeze_excitation import EffectiveSqueezeExcitation, SqueezeExcitation
from attnzoo.blocks.srm import StyleRecalibration
from attnzoo.blocks.strip_pooling import StripPooling
from attnzoo.blocks.triplet import TripletAttention

__all__ = [
    "BAM",
    "CBAM",
    "ChannelAffine",
    "ConcurrentSqueezeExcitation",
    "CoordinateAttention",
    "EffectiveSqueezeExcitation",
    "EfficientChannelAttention",
    "EfficientLocalAttention",
    "EfficientMultiScaleAttention",
    "GatedChannelTransformation",
    "GatherExcite",
    "GlobalAttentionMechanism",
    "GlobalResponseNorm",
    "LargeKernelAttention",
    "LargeSelectiveKernel",
    "LinearContextTransform",
    "LocalAttention",
    "NoAttention",
    "NormalizationAttention",
    "PolarizedSelfAttention",
    "ShuffleAttention",
    "SimAM",
    "SpatialAttention",
    "SpatialGroupEnhance",
    "SqueezeExcitation",
    "StripPooling",
    "StyleRecalibration",
    "TripletAttention",
]
