"""Where the resolution levels of a network end, on a trunk and on branches side by side."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

from attnzoo.structure.graph import ancestors, chain, computed_once, used_values
from attnzoo.structure.makers import only_reader
from attnzoo.structure.nested import level_holders
from attnzoo.structure.residual import residual_blocks
from attnzoo.structure.trunk import Unit, units
from attnzoo.tracing import LEVEL_RATIO, Call, Trace

__all__ = ["stage_ends"]

_NAMES = (
    "add sub mul div sigmoid tanh clamp hardtanh _softmax _log_softmax view _unsafe_view squeeze "
    "permute clone upsample_bilinear2d upsample_nearest2d pixel_shuffle"
)
#: What may stand between a network's last convolution and what it returns; after a ReLU it would
#: be a feature map.
_TO_OUTPUT = frozenset(_NAMES.split())

_MIXES = frozenset({"convolution", "addmm", "mm", "bmm"})


@computed_once
def stage_ends(trace: Trace) -> tuple[Unit, ...]:
    """The last unit of every resolution level, in forward order.

    First of the levels along the trunk, up to where a decoder brings a finer one back. Then, of
    the levels that have no block on the trunk (networks of parallel branches, detectors), the last
    unit anywhere that no coarser map has gone into. Of a level's units the last block is taken
    rather than a layer that prepares the next level. Levels at which the network only pools are
    left out, and so is a convolution that makes what the network returns: an image, a mask or
    scores are no feature map.
    """
    levels: list[list[Unit]] = []
    for unit in units(trace):
        if unit.output.is_point or not _is_fine(trace, unit):
            continue
        if levels and unit.output.height >= levels[-1][-1].output.height * LEVEL_RATIO:
            break  # a decoder begins: its resolutions have been met on the way down
        if not levels or unit.output.height * LEVEL_RATIO <= levels[-1][-1].output.height:
            levels.append([])
        levels[-1].append(unit)
    beside = [unit for unit in _beside_the_trunk(trace) if _is_fine(trace, unit)]
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
    before = [[unit for unit in level if not _is_returned(trace, unit)] for level in levels]
    before = [level for level in before if _has_weights(trace, level)]
    ends = []
    for level in before or levels:
        level.sort(key=lambda unit: unit.call.last)
        blocks = [unit for unit in level if unit.is_block]
        alone = [unit for unit in blocks or level if _stands_alone(trace, unit)]
        ends.append((alone or blocks or level)[-1])
    return tuple(sorted(ends, key=lambda unit: unit.call.last))


def _stands_alone(trace: Trace, unit: Unit) -> bool:
    """Whether its map is that of a module called once: not of one ReLU for the whole network."""
    value = unit.call.outputs[0]
    once = (trace.times_called[call.path] == 1 for call in trace.returning(value))
    return any(once) or only_reader(trace, value) is not None


def _is_returned(trace: Trace, unit: Unit) -> bool:
    return not unit.is_block and unit.call.outputs[0] in _returned(trace)


@computed_once
def _returned(trace: Trace) -> frozenset[int]:
    """What a last convolution makes, and what of that the network returns, summed up or scaled."""
    found: set[int] = set()

    @functools.cache
    def comes_from_one(value: int) -> bool:
        made_by = trace.values[value].op
        op = trace.ops[made_by] if made_by >= 0 else None
        if op is not None and op.name == "convolution":
            found.add(value)
        elif op is not None and op.name in _TO_OUTPUT:
            parts = [comes_from_one(source) for source in op.inputs]
            if any(parts):
                found.add(value)
        return value in found

    for output in trace.outputs:
        comes_from_one(output)
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
    made = [unit for unit in level if _mixed(trace) >> unit.call.outputs[0] & 1]
    return any(trace.info(unit.call).has_state for unit in made)


@computed_once
def _mixed(trace: Trace) -> int:
    """The values that a convolution or a linear layer has had a part in, as bits."""
    bits = 0
    for op in trace.ops:
        if op.name in _MIXES or any(bits >> value & 1 for value in op.inputs):
            for value in op.outputs:
                bits |= 1 << value
    return bits


def _is_fine(trace: Trace, unit: Unit) -> bool:
    """Whether nothing coarser than the unit's map has gone into it, as into that of a decoder."""
    return _coarsest(trace)[unit.call.outputs[0]] * LEVEL_RATIO > unit.output.height


def _same_level(level: list[Unit], other: list[Unit]) -> bool:
    """Whether some unit of one is about as high as some unit of the other."""
    heights = itertools.product((u.output.height for u in level), (u.output.height for u in other))
    return any(one < two * LEVEL_RATIO and two < one * LEVEL_RATIO for one, two in heights)


@computed_once
def _beside_the_trunk(trace: Trace) -> tuple[Unit, ...]:
    """Units outside those of the trunk whose map goes on into another one."""
    holders = level_holders(trace)
    closed = {unit.call.index for unit in units(trace)}
    blocks = {
        block.call.index
        for block in residual_blocks(trace)
        if trace.output_map(block.call) and not block.is_branch
    } - holders
    goes_on = _goes_on(trace)

    def inside(call: Call) -> Iterator[Call]:
        if call.index in closed:
            return
        children, is_map = trace.children(call), trace.output_map(call) is not None
        apart = not is_map or call.index == 0 or call.index in holders
        apart = apart or _is_straight(trace, call, children)
        if apart and call.index not in blocks:
            for child in children:
                yield from inside(child)
        elif is_map:
            yield call

    found = []
    for call in inside(trace.calls[0]) if trace.calls else ():
        output = trace.values[call.outputs[0]]
        once = trace.times_called[call.path] == 1
        if once and not output.is_point and goes_on >> call.outputs[0] & 1:
            found.append(Unit(call, output, is_block=trace.info(call).kind != "leaf"))
    return tuple(found)


def _is_straight(trace: Trace, call: Call, children: list[Call]) -> bool:
    """Whether the call runs its children in a line: whatever goes through it passes them all."""
    if not children or children[-1].outputs != call.outputs:
        return False
    passed = chain(trace, call.outputs[0])
    return all(passed.intersection(child.outputs) for child in children)


@computed_once
def _coarsest(trace: Trace) -> list[int]:
    """Per value, the least height above 1 of the maps that it was computed from, itself included.

    Maps within a unit do not count: a gate that looks at a smaller map is no decoder.
    """
    calls = [unit.call for unit in (*units(trace), *_beside_the_trunk(trace))]
    hidden = {op for call in calls for op in call.ops}
    shown = {value for call in calls for value in call.outputs}
    heights: list[int] = []
    for index, value in enumerate(trace.values):
        sources = trace.ops[value.op].inputs if value.op >= 0 else ()
        known = [heights[source] for source in sources]
        if value.is_map and not value.is_point and (value.op not in hidden or index in shown):
            known.append(value.height)
        heights.append(min(known, default=1 << 30))
    return heights


def _goes_on(trace: Trace) -> int:
    """The values that go into a convolution, or an output, that the result depends on, as bits."""
    sets, used = ancestors(trace), used_values(trace)
    bits = 0 if trace.stopped else used
    for op in trace.ops:
        if op.name == "convolution" and used >> op.outputs[0] & 1:
            bits |= sets[op.inputs[0]]
    return bits
