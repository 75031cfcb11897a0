"""Modules that hold several resolution levels of a network inside, as nested U-Nets do.

Some networks are written level by level inside each other: `cat(x, up(deeper(down(x))))`, where
`deeper` is the same module once more (U-Nets of MONAI and pix2pix, hourglasses), and any U-Net may
be called as a whole by a network around it. Others are in one module that hands two maps from block
to block (DPN). Such a module is no block of one level.
"""

from __future__ import annotations

from bisect import bisect_left

from attnzoo.structure.graph import computed_once
from attnzoo.tracing import LEVEL_RATIO, Call, Op, Trace, Value

__all__ = ["level_holders"]

_SIGMOIDS = frozenset({"sigmoid", "hardsigmoid", "tanh"})


@computed_once
def level_holders(trace: Trace) -> frozenset[int]:
    """The calls that hold several levels, as indices.

    Either such a call goes down at least three levels, or the two that the network has, which no
    block does. Or it takes and returns maps of one resolution, computes coarser ones between them
    with convolutions that see more than a pixel, and brings them back into what it returns, not as
    a gate by which it multiplies; nowhere else does the network get as coarse. It then holds two
    levels at least, or one of its own class is inside or around it: a block that works at half its
    resolution is no U-Net.
    """
    calls = [call for call in trace.calls[1:] if trace.info(call).kind != "leaf"]
    coarsest = {call.index: _coarsest_between(trace, call) for call in calls}
    possible = [call for call in calls if coarsest[call.index] and _brings_back(trace, call)]
    found = {call.index for call in calls if _goes_down(trace, call)}
    for call in possible:
        own = trace.values[call.outputs[0]]
        if any(_is_coarser(value, own) for value in _beside(trace, call, possible)):
            continue
        around = [outer for outer in trace.enclosing(call) if outer.index in found]
        within = (trace.calls[index] for index in call.inside)
        deeper = [inner for inner in within if _is_coarser(trace.output_map(inner), own)]
        alike = trace.info(call).qualname
        recurs = any(trace.info(other).qualname == alike for other in (*around, *deeper))
        if recurs or coarsest[call.index] * 2 * LEVEL_RATIO <= own.height:
            found.add(call.index)
    return frozenset(found)


def _goes_down(trace: Trace, call: Call) -> bool:
    """Whether a module returns a map three levels below that which it takes, or the coarsest map.

    Where it returns a pixel, how far below convolutions inside work.
    """
    output, taken = trace.output_map(call), trace.input_map(call)
    if output is None or taken is None:
        return False
    least = _coarsest_inside(trace, call, taken) if output.is_point else output.height
    levels = 2 if least == _bottom(trace) else 4
    return 0 < least * levels * LEVEL_RATIO <= taken.height


@computed_once
def _bottom(trace: Trace) -> int:
    """The height of the coarsest map of a network."""
    heights = (value.height for value in trace.values if value.is_map and value.height > 1)
    return min(heights, default=0)


def _coarsest_between(trace: Trace, call: Call) -> int:
    """The least height inside a module that keeps its resolution; 0 if that is its own."""
    output = trace.output_map(call)
    taken = [trace.values[value] for value in call.inputs if trace.values[value].is_map]
    if output is None or not taken or any(_is_coarser(value, output) for value in taken):
        return 0
    return _coarsest_inside(trace, call, output)


def _coarsest_inside(trace: Trace, call: Call, than: Value) -> int:
    """The least height that a convolution of more than a pixel takes or makes in a module.

    0 where none is of a coarser level than a map.
    """
    ops, heights = _wide_convolutions(trace)
    within = heights[bisect_left(ops, call.first_op) : bisect_left(ops, call.end_op)]
    least = min(within, default=0)
    return least if least * LEVEL_RATIO <= than.height else 0


@computed_once
def _wide_convolutions(trace: Trace) -> tuple[list[int], list[int]]:
    """Those that see more than a pixel: as operations, and the least height of their two maps."""
    ops, heights = [], []
    for op in trace.ops:
        if op.name == "convolution" and max(op.kernel, default=1) > 1:
            maps = (trace.values[value] for value in (op.inputs[0], op.outputs[0]))
            found = [value.height for value in maps if value.is_map and not value.is_point]
            if found:
                ops.append(op.index)
                heights.append(min(found))
    return ops, heights


def _brings_back(trace: Trace, call: Call) -> bool:
    """Whether a coarser map, brought to the resolution of the output, is part of it: no factor."""
    output = trace.values[call.outputs[0]]
    waiting, seen = [call.outputs[0]], {call.outputs[0]}
    while waiting:
        made_by = trace.values[waiting.pop()].op
        if made_by not in call.ops:
            continue
        op = trace.ops[made_by]
        if op.name == "mul" and len(set(op.inputs)) > 1 and not _is_swish(trace, op):
            continue
        sources = [value for value in op.inputs if trace.values[value].is_map]
        if any(_is_coarser(trace.values[value], output) for value in sources):
            return True
        waiting += [value for value in sources if value not in seen]
        seen.update(sources)
    return False


def _is_swish(trace: Trace, product: Op) -> bool:
    """Whether a product is an activation: of a value and a sigmoid of that value."""
    for value in product.inputs:
        made_by = trace.values[value].op
        if made_by >= 0 and trace.ops[made_by].name in _SIGMOIDS:
            return trace.ops[made_by].inputs[0] in product.inputs
    return False


def _beside(trace: Trace, call: Call, possible: list[Call]) -> list[Value]:
    """The values made outside a module, and outside of those like it that are not around it."""
    hidden = set(call.ops)
    for other in possible:
        if call.index not in other.inside:
            hidden.update(other.ops)
    return [value for value in trace.values if value.op not in hidden]


def _is_coarser(value: Value | None, than: Value) -> bool:
    """Whether this is a map of more than a pixel, and of a coarser level than another."""
    if value is None or not value.is_map or value.height * LEVEL_RATIO > than.height:
        return False
    return not value.is_point
