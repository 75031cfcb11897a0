"""Where maps of levels fuse and coarser ones rise, after the way down of a network.

A *fusion* joins maps of one size, one of which was made from another level since their ways parted,
after something has risen. A *rise* makes a map of a level from a coarser one. What is within a
unit, such as a decoder block, belongs to it: the block as a whole is then the fusion, or the rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnzoo.structure.beside import risen_values, shown_maps, units_beside
from attnzoo.structure.graph import ancestors, computed_once
from attnzoo.structure.trunk import units
from attnzoo.tracing import LEVEL_RATIO, STACKED, Call, Op, Trace, Value

__all__ = ["Start", "closed_by", "fusions", "has_encoder", "same_level", "starts", "stride"]

_JOINS = frozenset({"add", "cat", "stack", "mul", "maximum", "addcmul", "lerp"})

#: What is only another view of an image's pixels, before the first convolution.
_REGROUPS = frozenset(
    {"cat", "slice", "stack", "pixel_unshuffle", "permute", "view", "_unsafe_view", "clone"}
)


@dataclass(frozen=True, slots=True)
class Start:
    """The map of a fusion or of a rise.

    Attributes:
        value: the map.
        fuses: whether it is a fusion.
        skips: of a fusion, the maps that have not come from another level, or not up.
    """

    value: int
    fuses: bool
    skips: tuple[int, ...]


def same_level(one: Value, other: Value) -> bool:
    """Whether two maps are of one resolution level."""
    low, high = sorted((one.height, other.height))
    return high < low * LEVEL_RATIO


@computed_once
def starts(trace: Trace) -> tuple[Start, ...]:
    """The fusions and rises of a network, in forward order."""
    found: dict[int, Start] = {}
    closed, risen = closed_by(trace), risen_values(trace)
    for op in trace.ops:
        unit = closed.get(op.index)
        for made in op.outputs:
            value, start = trace.values[made], unit.outputs[0] if unit else made
            if not risen >> start & 1 or not value.is_map or value.is_point:
                continue
            skips = _skips(trace, op)
            if skips is not None or _rises(trace, op, made, unit):
                known = found.get(start, Start(start, False, ()))
                both = tuple(dict.fromkeys((*known.skips, *(skips or ()))))
                found[start] = Start(start, known.fuses or skips is not None, both)
    return tuple(found[value] for value in sorted(found))


@computed_once
def has_encoder(trace: Trace) -> bool:
    """Whether a network has come down to its coarsest level by what has not risen."""
    shown, risen = shown_maps(trace), risen_values(trace)
    heights = {i: v.height for i, v in enumerate(trace.values) if shown >> i & 1}
    least = min(heights.values(), default=0)
    lowest = (index for index, height in heights.items() if height < least * LEVEL_RATIO)
    return bool(risen) and any(not risen >> index & 1 for index in lowest)


@computed_once
def fusions(trace: Trace) -> frozenset[int]:
    """The maps that are fused."""
    return frozenset(start.value for start in starts(trace) if start.fuses)


@computed_once
def closed_by(trace: Trace) -> dict[int, Call]:
    """Operation → the unit in which it runs."""
    calls = [unit.call for unit in (*units(trace), *units_beside(trace))]
    return {index: call for call in calls for index in call.ops}


def _skips(trace: Trace, op: Op) -> tuple[int, ...] | None:
    """The operands of a fusion that have not come from another level, or not up; else None."""
    values, sets, shown = trace.values, ancestors(trace), shown_maps(trace)
    joined = _stacked(trace, op)
    inputs = list(dict.fromkeys(op.inputs if joined is None else joined))
    maps = [value for value in inputs if values[value].is_map and not values[value].is_point]
    if (op.name not in _JOINS and joined is None) or len(maps) < 2 or len(maps) != len(inputs):
        return None
    own = values[maps[0]]
    if not all(same_level(values[value], own) for value in maps[1:]):
        return None
    crossing = []
    for value in maps:
        others = 0
        for other in maps:
            others |= sets[other] if other != value else 0
        private, crosses = sets[value] & ~others & shown, False
        while private and not crosses:
            lowest = private & -private
            crosses = not same_level(values[lowest.bit_length() - 1], own)
            private ^= lowest
        crossing.append(crosses)
    if not any(crossing):
        return None
    risen = risen_values(trace)
    if any(risen >> value & 1 for value in maps):  # others may have come by a branch of their own
        crossing = [bool(risen >> v & 1 and own) for v, own in zip(maps, crossing, strict=True)]
    return tuple(value for value, crosses in zip(maps, crossing, strict=True) if not crosses)


def _stacked(trace: Trace, op: Op) -> tuple[int, ...] | None:
    """The maps that were stacked, where an operation makes one of them again, as BiFPN does."""
    if not op.inputs or not any(trace.values[value].is_map for value in op.outputs):
        return None
    source = op.inputs[0]
    while STACKED in trace.values[source].axes:
        made_by = trace.ops[trace.values[source].op]
        if made_by.name == "stack":
            return made_by.inputs
        source = made_by.inputs[0]
    return None


def _rises(trace: Trace, op: Op, made: int, unit: Call | None) -> bool:
    """Whether the operation, or the unit around it, makes a finer map of what it is given."""
    if unit is not None and (made not in unit.outputs or unit.parent < 0):
        return False
    height = trace.values[made].height
    given = unit.inputs if unit is not None else op.inputs
    maps = [trace.values[value] for value in given if trace.values[value].is_map]
    levels = [value.height for value in maps if not value.is_point]
    return bool(levels) and max(levels) * LEVEL_RATIO <= height


def stride(trace: Trace, value: Value) -> int:
    """By how much a map is smaller than the image, as a power of two.

    The image is what the first convolution is given, before pixels are folded into channels, for
    some networks scale their input first.
    """
    first = next((op for op in trace.ops if op.name == "convolution"), None)
    if first is None:
        return 1
    source = first.inputs[0]
    while trace.values[source].op >= 0:
        op = trace.ops[trace.values[source].op]
        if op.name not in _REGROUPS or not trace.values[op.inputs[0]].is_map:
            break
        source = op.inputs[0]
    image = trace.values[source]
    height = image.height if image.is_map else image.shape[-2]
    return 1 << max(round(math.log2(height / value.height)), 0)
