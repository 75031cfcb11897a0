"""Attention blocks, one family a file. Importing this package registers them all."""

from attnzoo.blocks import timm_bridge as timm_bridge
from attnzoo.blocks.axial import AxialAttention
from attnzoo.blocks.bam import BAM
from attnzoo.blocks.cbam import CBAM, SpatialAttention
from attnzoo.blocks.controls import ChannelAffine, NoAttention, ResidualBottleneck
from attnzoo.blocks.coordinate import CoordinateAttention
from attnzoo.blocks.criss_cross import CrissCross
from attnzoo.blocks.double_attention import DoubleAttention
from attnzoo.blocks.dual_attention import DualAttention
from attnzoo.blocks.eca import EfficientChannelAttention
from attnzoo.blocks.ela import EfficientLocalAttention
from attnzoo.blocks.ema import EfficientMultiScaleAttention
from attnzoo.blocks.gam import GlobalAttentionMechanism
from attnzoo.blocks.gather_excite import GatherExcite
from attnzoo.blocks.gct import GatedChannelTransformation
from attnzoo.blocks.global_context import GlobalContext
from attnzoo.blocks.grn import GlobalResponseNorm
from attnzoo.blocks.large_kernel import LargeKernelAttention, LargeSelectiveKernel
from attnzoo.blocks.lct import LinearContextTransform
from attnzoo.blocks.local import LocalAttention
from attnzoo.blocks.local_dynamic import GatedUnits, LocalDynamicAttention
from attnzoo.blocks.local_self import LocalSelfAttention
from attnzoo.blocks.multi_head import MultiHeadSelfAttention
from attnzoo.blocks.nam import NormalizationAttention
from attnzoo.blocks.non_local import NonLocal
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
    "AxialAttention",
    "ChannelAffine",
    "ConcurrentSqueezeExcitation",
    "CoordinateAttention",
    "CrissCross",
    "DoubleAttention",
    "DualAttention",
    "EffectiveSqueezeExcitation",
    "EfficientChannelAttention",
    "EfficientLocalAttention",
    "EfficientMultiScaleAttention",
    "GatedChannelTransformation",
    "GatedUnits",
    "GatherExcite",
    "GlobalAttentionMechanism",
    "GlobalContext",
    "GlobalResponseNorm",
    "LargeKernelAttention",
    "LargeSelectiveKernel",
    "LinearContextTransform",
    "LocalAttention",
    "LocalDynamicAttention",
    "LocalSelfAttention",
    "MultiHeadSelfAttention",
    "NoAttention",
    "NonLocal",
    "NormalizationAttention",
    "PolarizedSelfAttention",
    "ResidualBottleneck",
    "ShuffleAttention",
    "SimAM",
    "SpatialAttention",
    "SpatialGroupEnhance",
    "SqueezeExcitation",
    "StripPooling",
    "StyleRecalibration",
    "TripletAttention",
]
