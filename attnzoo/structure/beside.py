"""Units beside the trunk, and which maps a coarser one has flowed into.

Detectors, U-Nets and networks of parallel branches have levels that no path to the output need
pass. What a map was computed from tells the way down of a network, its encoder, from what comes
after it: there a coarser map has been brought to a finer level, which is called a rise here.
"""

from __future__ import annotations

from collections.abc import Iterator

from attnzoo.structure.graph import ancestors, chain, computed_once, used_values
from attnzoo.structure.makers import called_once
from attnzoo.structure.nested import level_holders
from attnzoo.structure.operations import looks_up
from attnzoo.structure.residual import residual_blocks
from attnzoo.structure.trunk import (
    MIXES,
    Unit,
    blocks_in_parts,
    cuts,
    is_block,
    raises,
    units,
)
from attnzoo.tracing import LEVEL_RATIO, Call, Trace, Value

__all__ = ["NO_MAP", "coarsest_before", "is_no_level", "risen_values", "shown_maps", "units_beside"]

#: The height of the coarsest of no maps.
NO_MAP = 1 << 30


@computed_once
def units_beside(trace: Trace) -> tuple[Unit, ...]:
    """Units outside those of the trunk whose map goes on into another one."""
    holders = level_holders(trace)
    closed = {unit.call.index for unit in units(trace)} | set(blocks_in_parts(trace))
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
        apart = not is_map or call.index == 0 or call.index in holders or raises(trace, call)
        apart = apart or _is_straight(trace, call, children)
        if apart and call.index not in blocks:
            for child in children:
                yield from inside(child)
        elif is_map:
            yield call

    found = []
    for met in inside(trace.calls[0]) if trace.calls else ():
        call = called_once(trace, met)
        output = trace.values[call.outputs[0]]
        once = trace.times_called[call.path] == 1
        if once and not output.is_point and goes_on >> call.outputs[0] & 1:
            found.append(Unit(call, output, is_block(trace, met)))
    return tuple(found)


def _is_straight(trace: Trace, call: Call, children: list[Call]) -> bool:
    """Whether the call runs its children in a line: whatever goes through it passes them all."""
    if not children or children[-1].outputs != call.outputs or cuts(trace, call):
        return False
    passed = chain(trace, call.outputs[0])
    return all(passed.intersection(child.outputs) for child in children)


@computed_once
def shown_maps(trace: Trace) -> int:
    """The maps of more than a pixel that units take and make, or that are outside of them, as bits.

    What is within a unit is its own affair: a gate that looks at a smaller map is no decoder.
    """
    calls = [unit.call for unit in (*units(trace), *units_beside(trace))]
    alike = {trace.info(trace.calls[index]).qualname for index in blocks_in_parts(trace)}
    calls += [call for call in trace.calls if trace.info(call).qualname in alike]
    hidden = {op for call in calls for op in call.ops}
    made = {value for call in calls for value in call.outputs}
    bits = 0
    for index, value in enumerate(trace.values):
        inner = value.op in hidden and index not in made
        if value.is_map and not (value.is_point or inner or is_no_level(trace, index)):
            bits |= 1 << index
    return bits


def is_no_level(trace: Trace, index: int) -> bool:
    """Whether a map says nothing of resolution.

    It is bordered, in windows or patches, or stretched by a pool.
    """
    value = trace.values[index]
    cut = index in trace.in_patches or _is_cut(trace, value)
    return cut or is_padded(trace, value) or _is_stretched(trace, value)


def _is_cut(trace: Trace, value: Value) -> bool:
    """Whether this is windows × positions × channels, of quite another aspect than the image."""
    image = next((given for given in trace.inputs if given.is_map), None)
    if image is None or value.axes != "NHWC":
        return False
    aspect = value.height * image.width / (value.width * image.height)
    return not 1 / LEVEL_RATIO < aspect < LEVEL_RATIO


def _is_stretched(trace: Trace, value: Value) -> bool:
    """Whether an adaptive pool has made a map larger, as that of a VGG does of small images."""
    op = trace.ops[value.op] if value.op >= 0 else None
    if op is None or "adaptive" not in op.name or not value.is_map or value.is_point:
        return False
    given = trace.values[op.inputs[0]]
    return given.is_map and given.height < value.height


def is_padded(trace: Trace, value: Value) -> bool:
    """Whether a map is another one with a border, by which small maps grow a lot."""
    return value.op >= 0 and "_pad" in trace.ops[value.op].name


@computed_once
def coarsest_before(trace: Trace) -> list[int]:
    """Per value, the least height of the maps shown that it was computed from, itself included.

    What attention between positions looks at, keys of a coarser map say, does not flow into it.
    Nor does it matter how large the picture is before the first layer with weights: some networks
    bring it to a size of their own.
    """
    shown, pictures = shown_maps(trace), _pictures(trace)
    heights: list[int] = []
    for index, value in enumerate(trace.values):
        sources = trace.ops[value.op].inputs if value.op >= 0 else ()
        looks = len(set(sources)) > 1 and looks_up(trace.ops[value.op].name)
        known = [] if looks else [heights[source] for source in sources]
        if (shown & ~pictures) >> index & 1:
            known.append(value.height)
        heights.append(min(known, default=NO_MAP))
    return heights


def _pictures(trace: Trace) -> int:
    """The values that no convolution or product has had a part in, as bits."""
    bits = 0
    for index, value in enumerate(trace.values):
        op = trace.ops[value.op] if value.op >= 0 else None
        if op is None or (op.name not in MIXES and all(bits >> one & 1 for one in op.inputs)):
            bits |= 1 << index
    return bits


@computed_once
def risen_values(trace: Trace) -> int:
    """The values that a rise has gone into, as the bits of an int.

    A rise is a map shown that was computed from one of a coarser level.
    """
    coarsest, shown, bits = coarsest_before(trace), shown_maps(trace), 0
    for index, value in enumerate(trace.values):
        sources = trace.ops[value.op].inputs if value.op >= 0 else ()
        rises = shown >> index & 1 and coarsest[index] * LEVEL_RATIO <= value.height
        if rises or any(bits >> source & 1 for source in sources):
            bits |= 1 << index
    return bits


def _goes_on(trace: Trace) -> int:
    """The values that go into a convolution, or an output, that the result depends on, as bits."""
    sets, used = ancestors(trace), used_values(trace)
    bits = 0 if trace.stopped else used
    for op in trace.ops:
        if op.name == "convolution" and used >> op.outputs[0] & 1:
            bits |= sets[op.inputs[0]]
    return bits
