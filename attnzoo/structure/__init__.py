"""What a trace shows about the architecture: pure functions of a `Trace`, each computed once."""

from attnzoo.structure.anchors import (
    OR_SHARED,
    Anchor,
    anchors,
    anchors_at_all_calls,
    at_all_calls,
    called_often,
    is_read,
    parts_called_often,
)
from attnzoo.structure.composites import Composite, Inner, composites
from attnzoo.structure.dense import Transition, transitions
from attnzoo.structure.fusions import stride
from attnzoo.structure.graph import computed_once
from attnzoo.structure.head import head_paths
from attnzoo.structure.makers import called_once, maker, only_reader, passed_on
from attnzoo.structure.mbconv import MBConv, mbconvs
from attnzoo.structure.norms import after_activation, behind_instance_norm
from attnzoo.structure.operations import passes
from attnzoo.structure.parts import PARTS, Part, is_pool, part_of, shown_units
from attnzoo.structure.pools import FunctionalPool, functional_pools, pool_calls
from attnzoo.structure.pyramid import (
    Level,
    Node,
    decoder_nodes,
    decoder_skips,
    neck_levels,
    nodes,
)
from attnzoo.structure.residual import Addition, ResidualBlock, residual_blocks
from attnzoo.structure.stages import StageEnd, stage_ends
from attnzoo.structure.trunk import Unit, mixed_values, on_trunk, units

__all__ = [
    "OR_SHARED",
    "PARTS",
    "Addition",
    "Anchor",
    "Composite",
    "FunctionalPool",
    "Inner",
    "Level",
    "MBConv",
    "Node",
    "Part",
    "ResidualBlock",
    "StageEnd",
    "Transition",
    "Unit",
    "after_activation",
    "anchors",
    "anchors_at_all_calls",
    "at_all_calls",
    "behind_instance_norm",
    "called_often",
    "called_once",
    "composites",
    "computed_once",
    "decoder_nodes",
    "decoder_skips",
    "functional_pools",
    "head_paths",
    "is_pool",
    "is_read",
    "maker",
    "mbconvs",
    "mixed_values",
    "neck_levels",
    "nodes",
    "on_trunk",
    "only_reader",
    "part_of",
    "parts_called_often",
    "passed_on",
    "passes",
    "pool_calls",
    "residual_blocks",
    "shown_units",
    "stage_ends",
    "stride",
    "transitions",
    "units",
]
