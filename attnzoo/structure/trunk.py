"""The trunk: the values every path from input to output passes, and the modules along it."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import ancestors, chain, computed_once, used_values
from attnzoo.structure.makers import last_layer
from attnzoo.structure.nested import level_holders
from attnzoo.structure.operations import passes
from attnzoo.structure.residual import residual_blocks
from attnzoo.tracing import LEVEL_RATIO, Call, Trace, Value

__all__ = [
    "MIXES",
    "Unit",
    "blocks_in_parts",
    "cuts",
    "is_block",
    "mixed_values",
    "on_trunk",
    "on_way_down",
    "only_weights",
    "units",
]

#: Operations that mix positions or channels by weights.
MIXES = frozenset({"convolution", "addmm", "mm", "bmm", "baddbmm"})


@dataclass(frozen=True, slots=True)
class Unit:
    """A module call on the trunk that is not taken apart further.

    `is_block` tells a composite with parallel paths inside (residual, dense, inception) from a
    single layer, and from a gate that belongs to the block around it.
    """

    call: Call
    output: Value
    is_block: bool


@computed_once
def _trunk(trace: Trace) -> frozenset[int]:
    maps = [index for index, value in enumerate(trace.values) if value.is_map]
    sets = ancestors(trace)
    ends = sorted(trace.outputs, key=lambda value: (sets[value].bit_count(), value))
    return chain(trace, ends[-1] if ends else max(maps, default=-1))


def on_trunk(trace: Trace, value: int) -> bool:
    """Whether every path from the model's input to its output passes `value`.

    Of several outputs to that which most has gone into: others are of auxiliary heads.
    """
    return value in _trunk(trace)


@computed_once
def _way_down(trace: Trace) -> frozenset[int]:
    used = used_values(trace)
    maps = [i for i, value in enumerate(trace.values) if value.is_map and value.height > 1]
    maps = [i for i in maps if used >> i & 1]
    least = min((trace.values[i].height for i in maps), default=0)
    return chain(trace, max((i for i in maps if trace.values[i].height == least), default=-1))


def on_way_down(trace: Trace, value: int) -> bool:
    """Whether every path from the model's input to its coarsest feature map passes `value`.

    The encoder of a U-Net or of a detector is no trunk, since finer maps of it go on as well.
    """
    return value in _way_down(trace)


@computed_once
def units(trace: Trace) -> tuple[Unit, ...]:
    """The blocks and layers along the trunk, in forward order.

    Modules that run as a straight line are taken apart, and those that hold several levels or turn
    maps into scores; residual blocks, those that work on patches and other modules with parallel
    paths are not.
    """
    holders = level_holders(trace)
    residual = {block.call.index for block in residual_blocks(trace)}
    in_parts = blocks_in_parts(trace)
    found: list[Unit] = []

    def take(call: Call) -> None:
        children = trace.children(call)
        straight = bool(children) and children[-1].outputs == call.outputs
        straight &= all(any(on_trunk(trace, v) for v in c.outputs) for c in children)
        apart = call.parent < 0 or call.index in holders or _ends(trace, call)
        apart = apart or raises(trace, call)
        if apart or (straight and call.index not in residual and not cuts(trace, call)):
            for child in children:
                take(child)
            return
        output = trace.output_map(call)
        if call.index in in_parts:
            last = in_parts[call.index]
            found.append(Unit(last, trace.values[last.outputs[0]], is_block=True))
        elif output is not None and on_trunk(trace, call.outputs[0]):
            found.append(Unit(call, output, is_block(trace, call)))

    if trace.calls:
        take(trace.calls[0])
    return tuple(found)


def cuts(trace: Trace, call: Call) -> bool:
    """Whether a module itself cuts a map into patches, and puts it together again: a block."""
    if not trace.in_patches or trace.output_map(call) is None:
        return False
    own = (trace.ops[index] for index in call.ops if trace.ops[index].call == call.index)
    cut = any(not trace.in_patches.keys().isdisjoint(op.outputs) for op in own)
    return cut and call.outputs[0] not in trace.in_patches


def raises(trace: Trace, call: Call) -> bool:
    """Whether a module with modules inside brings a map up by two levels: a decoder, no block."""
    output = trace.output_map(call)
    given = [trace.values[value] for value in call.inputs if trace.values[value].is_map]
    least = min((value.height for value in given if not value.is_point), default=0)
    whole = output is not None and 0 < least * 2 * LEVEL_RATIO <= output.height
    return whole and trace.info(call).kind != "leaf"


@computed_once
def blocks_in_parts(trace: Trace) -> dict[int, Call]:
    """Residual blocks that return several tensors, as indices, with the last layer of each branch.

    There is no place after such a block; the one closest to it is before its sum. A module that
    adds and returns maps of several sizes is a whole network (or a traced one) and no block.
    """
    found = {}
    for block in residual_blocks(trace):
        made = [trace.values[value] for value in block.call.outputs]
        made += [trace.values[addition.branch] for addition in block.additions]
        one_size = len({value.shape[2:] for value in made if value.is_map and not value.is_point})
        in_parts = trace.output_map(block.call) is None and not block.is_branch
        if block.additions and in_parts and one_size == 1:
            last = last_layer(trace, block.additions[-1].branch, block.call)
            if last is not None:
                found[block.call.index] = last
    return found


def _ends(trace: Trace, call: Call) -> bool:
    """Whether a module makes scores of a map: a network with its classifier."""
    if not call.returns_tensor or not call.outputs or trace.input_map(call) is None:
        return False
    return len(trace.values[call.outputs[0]].shape) <= 2


def is_block(trace: Trace, call: Call) -> bool:
    """Whether a module makes a map of its own: no single layer, no empty sequence, no gate."""
    info = trace.info(call)
    if info.kind == "leaf" or info.is_attention or not info.has_parameters:
        return False
    mixes = any(trace.ops[index].name in MIXES for index in call.ops)
    return mixes and not only_weights(trace, call)


def only_weights(trace: Trace, call: Call) -> bool:
    """Whether all a module does with a map it is given is to weight it, as squeeze-excite does.

    What it returns is that map times something, or a sum of such.
    """
    if not call.inputs or not call.outputs or not call.ops:
        return False
    given, gates = set(call.inputs), []

    def weighted(value: int) -> bool:
        made_by = trace.values[value].op
        if value in given or made_by not in call.ops:
            return value in given
        op = trace.ops[made_by]
        sources = set(op.inputs)
        if op.name == "mul" and len(sources) > 1:
            gates.append(op)
            return any(map(weighted, sources))
        both = op.name == "add" and len(sources) > 1
        return (both or (passes(op.name) and len(sources) == 1)) and all(map(weighted, sources))

    return weighted(call.outputs[0]) and bool(gates)


@computed_once
def mixed_values(trace: Trace) -> int:
    """The values that a convolution or a linear layer has had a part in, as bits."""
    bits = 0
    for op in trace.ops:
        if op.name in MIXES or any(bits >> value & 1 for value in op.inputs):
            for value in op.outputs:
                bits |= 1 << value
    return bits
