"""The part of a network that a map belongs to: trunk, neck, decoder or head."""

from __future__ import annotations

from typing import Literal

from attnzoo.structure.beside import risen_values, units_beside
from attnzoo.structure.graph import ancestors, computed_once
from attnzoo.structure.heads import head
from attnzoo.structure.pyramid import decoder_nodes
from attnzoo.structure.stages import stage_ends
from attnzoo.structure.trunk import MIXES, Unit, units
from attnzoo.tracing import LEVEL_RATIO, Call, Trace

__all__ = ["PARTS", "Part", "is_pool", "part_of", "shown_units"]

Part = Literal["trunk", "neck", "decoder", "head"]
PARTS: tuple[Part, ...] = ("trunk", "neck", "decoder", "head")


def part_of(trace: Trace, value: int) -> Part:
    """The part that a map belongs to.

    What has risen belongs to a decoder, or where a head of several levels follows, to a neck, with
    all that leads to the head besides the trunk. What comes after is the head's.
    """
    found = head(trace)
    if found is None or decoder_nodes(trace):
        return "decoder" if decoder_nodes(trace) and risen_values(trace) >> value & 1 else "trunk"
    if _leading_to_the_end(trace) >> value & 1:
        return "trunk"
    return "neck" if _leading_to_the_head(trace) >> value & 1 else "head"


@computed_once
def _leading_to_the_end(trace: Trace) -> int:
    """The values that the trunk's coarsest map is computed from, itself included, as bits."""
    found, risen = head(trace), risen_values(trace)
    given = found.inputs if found is not None else ()
    ends = [end.value for end in stage_ends(trace) if not risen >> end.value & 1]
    ends = [value for value in ends if value not in given] or ends
    bits = 0
    for value in ends:
        bits |= ancestors(trace)[value]
    return bits


@computed_once
def _leading_to_the_head(trace: Trace) -> int:
    """The values that what the head is given is computed from, as bits."""
    found, bits = head(trace), 0
    for value in found.inputs if found is not None else ():
        bits |= ancestors(trace)[value]
    return bits


@computed_once
def shown_units(trace: Trace) -> tuple[Unit, ...]:
    """The blocks, convolutions and pools of a network, in the order in which they end."""
    found = {unit.call.index: unit for unit in (*units(trace), *units_beside(trace))}
    kept = [
        unit
        for unit in found.values()
        if unit.is_block or is_pool(trace, unit.call) or _mixes(trace, unit.call)
    ]
    return tuple(sorted(kept, key=lambda unit: unit.call.outputs[0]))


def _mixes(trace: Trace, call: Call) -> bool:
    return any(trace.ops[index].name in MIXES for index in call.ops)


def is_pool(trace: Trace, call: Call) -> bool:
    """Whether a module without parameters makes a smaller map."""
    given, made = trace.input_map(call), trace.output_map(call)
    if given is None or made is None or trace.info(call).has_parameters:
        return False
    return made.height * LEVEL_RATIO <= given.height
