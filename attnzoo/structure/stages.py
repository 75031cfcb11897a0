"""Where the resolution levels of a network end, on a trunk and on branches side by side."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from attnzoo.structure.beside import (
    NO_MAP,
    coarsest_before,
    is_no_level,
    risen_values,
    shown_maps,
    units_beside,
)
from attnzoo.structure.graph import ancestors, computed_once
from attnzoo.structure.heads import head
from attnzoo.structure.makers import called_once, only_reader
from attnzoo.structure.residual import residual_blocks
from attnzoo.structure.scores import is_scored, returned_values
from attnzoo.structure.trunk import Unit, mixed_values, on_trunk, on_way_down, only_weights, units
from attnzoo.tracing import LEVEL_RATIO, Call, Trace, Value, Where

__all__ = ["StageEnd", "stage_ends"]


@dataclass(frozen=True, slots=True)
class StageEnd:
    """Where a resolution level ends: after what `call` returns, or before it on what it takes.

    `call` is None where no module makes or takes the map alone; `value` is that map.
    """

    call: Call | None
    where: Where
    value: int


@computed_once
def stage_ends(trace: Trace) -> tuple[StageEnd, ...]:
    """The end of every resolution level, in forward order: the last unit's.

    First of the levels along the trunk, up to where a decoder brings a finer one back. Then, of
    the levels that have no block on the trunk (networks of parallel branches, detectors), the last
    unit anywhere that no coarser map has gone into. Of a level's units the last block is taken
    rather than a layer that prepares the next level. Levels at which the network only pools are
    left out, and so is a convolution that makes what the network returns: an image, a mask or
    scores are no feature map. Where a function joins branches side by side, one branch is no end:
    what alone reads their concatenation is.
    """
    levels: list[list[Unit]] = []
    for unit in units(trace):
        if not _is_fine(trace, unit):
            continue
        if levels and unit.output.height >= levels[-1][-1].output.height * LEVEL_RATIO:
            break  # a decoder begins: its resolutions have been met on the way down
        if not levels or unit.output.height * LEVEL_RATIO <= levels[-1][-1].output.height:
            levels.append([])
        levels[-1].append(unit)
    beside = [unit for unit in units_beside(trace) if _is_fine(trace, unit)]
    beside = [unit for unit in beside if mixed_values(trace) >> unit.call.outputs[0] & 1]
    beside.sort(key=lambda unit: -unit.output.height)
    levels = [level for level in levels if _has_weights(trace, level)]
    for _, level in itertools.groupby(beside, _Level()):
        others = _leading_on(trace, list(level), beside)
        same = [known for known in levels if _same_level(known, others)]
        if not same:
            levels.append(others)
        elif not any(unit.is_block for unit in same[0]):
            same[0] += [unit for unit in others if unit.is_block]
    levels = [level for level in levels if _has_weights(trace, level)]
    levels = [[u for u in level if not _begins_a_decoder(trace, u)] or level for level in levels]
    before = [[unit for unit in level if not _is_returned(trace, unit)] for level in levels]
    before = [level for level in before if _has_weights(trace, level)]
    ends = [_end_of(trace, level) for level in before or levels]
    return tuple(sorted(ends, key=lambda end: end.value))


def _end_of(trace: Trace, level: list[Unit]) -> StageEnd:
    level.sort(key=lambda unit: unit.call.last)
    joined = _last_join(trace, level)
    if joined is not None:
        return StageEnd(only_reader(trace, joined), "before", joined)
    blocks = [unit for unit in level if unit.is_block]
    blocks = [unit for unit in level if unit.is_block or _gates_one_of(trace, unit, blocks)]
    alone = [unit for unit in blocks or level if _stands_alone(trace, unit)]
    if not blocks:
        alone = _before_the_fork(trace, alone) or alone
        alone = _before_the_parting(trace, alone, level) or alone
    call = called_once(trace, (alone or blocks or level)[-1].call)
    return StageEnd(call, "after", call.outputs[0])


def _before_the_fork(trace: Trace, level: list[Unit]) -> list[Unit]:
    """Of the coarsest level's layers, those before a neck goes up again and a head goes on."""
    sets = ancestors(trace)
    if not risen_values(trace) or any(unit.output.height > _bottom(trace) for unit in level):
        return []
    values = [unit.call.outputs[0] for unit in level]
    lone = [v for v in values if not all(sets[max(v, w)] >> min(v, w) & 1 for w in values)]
    return [unit for unit in level if unit.call.outputs[0] not in lone] if lone else []


def _before_the_parting(trace: Trace, alone: list[Unit], level: list[Unit]) -> list[Unit]:
    """Of layers, those up to the last map of their level that all of the way down passes.

    What comes after begins the branches of the next level's first block.
    """
    maps = enumerate(trace.values)
    passed = [i for i, v in maps if v.is_map and on_way_down(trace, i) and _on_level(v, level)]
    return [unit for unit in alone if unit.call.outputs[0] <= max(passed, default=-1)]


def _last_join(trace: Trace, level: list[Unit]) -> int | None:
    """The last concatenation of branches by a function that all of a level passes.

    None if the level has a block on the trunk, or a layer behind the concatenation.
    """
    passed = [unit for unit in level if unit in units(trace)]
    last = max((unit.call.outputs[0] for unit in passed), default=-1)
    joins = [value for value in _joins(trace) if _on_level(trace.values[value], level)]
    if any(unit.is_block for unit in passed) or not joins or joins[-1] < last:
        return None
    reader = only_reader(trace, joins[-1])
    within = reader is not None and {reader.index, *reader.inside}
    return None if within and any(u.call.index in within for u in level) else joins[-1]


@computed_once
def _joins(trace: Trace) -> tuple[int, ...]:
    """Concatenations outside of units that all that follows depends on, no rise among them.

    That is, what the network returns does, or a coarser level.
    """
    risen, shown = risen_values(trace), shown_maps(trace)
    found = []
    for op in trace.ops:
        value = op.outputs[0] if op.outputs else -1
        if op.name == "cat" and len(set(op.inputs)) > 1 and (shown & ~risen) >> value & 1:
            leads_on = on_way_down(trace, value) and _bottom(trace) < trace.values[value].height
            scored = any(is_scored(trace, call) for call in trace.returning(value))
            if leads_on or (on_trunk(trace, value) and not scored):
                found.append(value)
    return tuple(found)


def _on_level(value: Value, level: list[Unit]) -> bool:
    heights = [unit.output.height for unit in level]
    return min(heights) < value.height * LEVEL_RATIO and value.height < max(heights) * LEVEL_RATIO


def _gates_one_of(trace: Trace, unit: Unit, blocks: list[Unit]) -> bool:
    """Whether all a unit does is to weight what one of the blocks makes."""
    made = {block.call.outputs[0] for block in blocks}
    return bool(made.intersection(unit.call.inputs)) and only_weights(trace, unit.call)


def _stands_alone(trace: Trace, unit: Unit) -> bool:
    """Whether its map is that of a module called once: not of one ReLU for the whole network."""
    value = unit.call.outputs[0]
    once = (trace.times_called[call.path] == 1 for call in trace.returning(value))
    return any(once) or only_reader(trace, value) is not None


def _is_returned(trace: Trace, unit: Unit) -> bool:
    if unit.is_block:
        residual = (block.host.index for block in residual_blocks(trace))
        return is_scored(trace, unit.call) and unit.call.index not in residual
    return unit.call.outputs[0] in returned_values(trace)


def _begins_a_decoder(trace: Trace, unit: Unit) -> bool:
    """Whether a module around it is a decoder, which makes nothing coarser than it is given.

    That is the center of a U-Net's decoder, or its pooled or dilated context: no way down.
    """
    return any(outer.index in _decoders(trace) for outer in trace.enclosing(unit.call))


@computed_once
def _decoders(trace: Trace) -> frozenset[int]:
    """The modules that bring a map to a finer level, and none to a coarser one, as indices."""
    shown, risen, found = shown_maps(trace), risen_values(trace), set()
    for call in trace.calls[1:]:
        given = [trace.values[value].height for value in call.inputs if shown >> value & 1]
        if not given or any(risen >> value & 1 for value in call.inputs):
            continue
        made = [value for index in call.ops for value in trace.ops[index].outputs]
        made = [value for value in made if shown >> value & 1]
        least = min((trace.values[value].height for value in made), default=0)
        if any(risen >> value & 1 for value in made) and min(given) < least * LEVEL_RATIO:
            found.add(call.index)
    return frozenset(found)


class _Level:
    """Numbers units, given from the finest to the coarsest, by their resolution level."""

    def __init__(self) -> None:
        self._number, self._top = 0, 0

    def __call__(self, unit: Unit) -> int:
        if unit.output.height * LEVEL_RATIO <= self._top or not self._top:
            self._number, self._top = self._number + 1, unit.output.height
        return self._number


def _leading_on(trace: Trace, level: list[Unit], beside: list[Unit]) -> list[Unit]:
    """The units of a level on the way to a coarser one: not those of a head. All, if none is."""
    sets, onward = ancestors(trace), 0
    for unit in beside:
        if unit.output.height * LEVEL_RATIO <= level[0].output.height:
            onward |= sets[unit.call.outputs[0]]
    return [unit for unit in level if onward >> unit.call.outputs[0] & 1] or level


def _has_weights(trace: Trace, level: list[Unit]) -> bool:
    """Whether a level has weights, and is not just the image, normalised."""
    made = [unit for unit in level if mixed_values(trace) >> unit.call.outputs[0] & 1]
    return any(unit.is_block or trace.info(unit.call).has_parameters for unit in made)


def _is_fine(trace: Trace, unit: Unit) -> bool:
    """Whether nothing coarser than the unit's map has gone into it, as into that of a decoder.

    Nor may it come back from a finer level to one where the network had been before, as maps of a
    neck do. (In a HRNet finer maps are made of coarser ones all the way down.) Maps of a pixel
    are of no level, nor are those with a border or of windows, and those of one channel are scores.
    """
    value, height = unit.call.outputs[0], unit.output.height
    if unit.output.is_point or unit.output.channels == 1 or is_no_level(trace, value):
        return False
    if _is_made_of_levels(trace, value):
        return False
    comes_back = risen_values(trace) >> value & 1 and height * LEVEL_RATIO > _bottom(trace)
    return not comes_back and coarsest_before(trace)[value] * LEVEL_RATIO > height


def _is_made_of_levels(trace: Trace, value: int) -> bool:
    """Whether a map comes from another one that a head is given: P6 and P7 of a pyramid."""
    found = head(trace)
    given = found.inputs if found is not None else ()
    return any(ancestors(trace)[value] >> one & 1 for one in given if one != value)


@computed_once
def _bottom(trace: Trace) -> int:
    """The height that a network has come down to when a coarser map first flows into a finer."""
    coarsest, risen = coarsest_before(trace), risen_values(trace)
    first = (risen & -risen).bit_length() - 1 if risen else len(coarsest)
    return min(coarsest[:first], default=NO_MAP)


def _same_level(level: list[Unit], other: list[Unit]) -> bool:
    """Whether some unit of one is about as high as some unit of the other."""
    heights = itertools.product((u.output.height for u in level), (u.output.height for u in other))
    return any(one < two * LEVEL_RATIO and two < one * LEVEL_RATIO for one, two in heights)
