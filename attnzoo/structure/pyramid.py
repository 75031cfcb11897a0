"""The nodes of a neck or a decoder: what each level makes of a fusion before it hands it on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from attnzoo.structure.beside import risen_values
from attnzoo.structure.fusions import Start, closed_by, fusions, has_encoder, same_level, starts
from attnzoo.structure.graph import computed_once
from attnzoo.structure.heads import head
from attnzoo.structure.makers import only_reader
from attnzoo.structure.operations import passes
from attnzoo.structure.scores import handed_out, is_scored, returned_values
from attnzoo.structure.trunk import only_weights
from attnzoo.tracing import LEVEL_RATIO, Call, Op, Trace, Where

__all__ = ["Level", "Node", "decoder_nodes", "decoder_skips", "neck_levels", "nodes"]


@dataclass(frozen=True, slots=True)
class Node:
    """A fusion or a rise, with what the level makes of it before anything else reads it.

    Attributes:
        start: the map that is fused, or has risen.
        value: the map that the level hands on.
        call: the module that makes it, or that alone takes it; None if there is none.
        where: `after` or `before` that module.
    """

    start: Start
    value: int
    call: Call | None
    where: Where


@dataclass(frozen=True, slots=True)
class Level:
    """What a head is given of one level: the map, and the module that makes it, if one does."""

    value: int
    call: Call | None


@computed_once
def neck_levels(trace: Trace) -> tuple[Level, ...]:
    """The levels that a neck hands to a head, from the finest to the coarsest."""
    found = head(trace)
    inputs = found.inputs if found is not None else ()
    return tuple(Level(value, _made_by(trace, value)) for value in inputs)


@computed_once
def decoder_nodes(trace: Trace) -> tuple[Node, ...]:
    """The nodes of a decoder: of an encoder's levels, all the way to a result.

    None where a head of several levels follows, or more of the way down (PANet), where the coarsest
    level itself is made of what has risen (HRNet), and beyond the size of the image. Networks that
    return scores of each level have a decoder too.
    """
    found = head(trace)
    if not has_encoder(trace) or (found is not None and (not found.scores or _goes_down(trace))):
        return ()
    first = min((start.value for start in starts(trace)), default=0)
    maps = [value for value in trace.values[:first] if value.is_map and not value.is_point]
    finest = max((value.height for value in maps), default=0)
    return tuple(
        node
        for node in nodes(trace)
        if trace.values[node.value].height < finest * LEVEL_RATIO
        and (node.call is not None or node.start.fuses)
    )


@computed_once
def decoder_skips(trace: Trace) -> tuple[Level, ...]:
    """The maps of an encoder that a decoder fuses, in forward order."""
    found: dict[int, Level] = {}
    risen = risen_values(trace)
    for node in decoder_nodes(trace):
        for skip in node.start.skips:
            value = _from_outside(trace, skip)
            if value is not None and not risen >> value & 1 and trace.values[value].op >= 0:
                found[value] = Level(value, _made_by(trace, value))
    return tuple(found[value] for value in sorted(found))


def _goes_down(trace: Trace) -> bool:
    """Whether a fusion follows one of a finer level."""
    heights = [trace.values[start.value].height for start in starts(trace) if start.fuses]
    return any(after * LEVEL_RATIO <= before for before, after in itertools.pairwise(heights))


def _from_outside(trace: Trace, value: int) -> int | None:
    """The map that a unit was given, of which it has made `value` in one line."""
    closed = closed_by(trace)
    while (op := trace.values[value].op) in closed and value not in closed[op].outputs:
        if len(set(trace.ops[op].inputs)) != 1:
            return None
        value = trace.ops[op].inputs[0]
    return value


@computed_once
def nodes(trace: Trace) -> tuple[Node, ...]:
    """The nodes of a network, in forward order.

    A fusion or rise that goes on to a fusion of the same level, and to nothing else, is part of
    that. Scores that are only enlarged are no node.
    """
    of_head = {index for call in _head_calls(trace) for index in call.ops}
    scores = _scores(trace)
    found = []
    for start in starts(trace):
        hidden = start.value in scores or _only_enlarges_scores(trace, start)
        if trace.values[start.value].op not in of_head and not hidden:
            found.append(_settled(trace, start))
    by_value = {node.value: node for node in found if node is not None}
    return tuple(by_value[value] for value in sorted(by_value))


def _only_enlarges_scores(trace: Trace, start: Start) -> bool:
    """Whether a rise hands out what a module inside the network has made scores of already."""
    if start.fuses or start.value not in handed_out(trace):
        return False
    op = trace.ops[trace.values[start.value].op]
    made = trace.returning(op.inputs[0]) if op.inputs[0] in handed_out(trace) else []
    return any(is_scored(trace, call) for call in made if call.parent >= 0)


def _head_calls(trace: Trace) -> tuple[Call, ...]:
    found = head(trace)
    return found.calls if found is not None else ()


@computed_once
def _scores(trace: Trace) -> frozenset[int]:
    """What a last convolution makes for the network to return, other than levels of a pyramid."""
    found = head(trace)
    return returned_values(trace) - frozenset(found.inputs if found is not None else ())


def _settled(trace: Trace, start: Start) -> Node | None:
    """The node whose level ends where several read its map, or another level, or a head.

    None if it goes on to a fusion of its own level with no layer between.
    """
    value, block = start.value, _made_by(trace, start.value)
    learns = block is not None and trace.info(block).has_parameters
    learns = learns and block is not None and not only_weights(trace, block)
    while not (learns and start.fuses and value == start.value) and value not in trace.outputs:
        call = _only_module(trace, value)
        if call is not None:
            value, learns = call.outputs[0], learns or trace.info(call).has_parameters
            continue
        op = _only_op(trace, value)
        if op is None or not same_level(trace.values[op.outputs[0]], trace.values[value]):
            break
        made = op.outputs[0]
        if _is_fusion(trace, op):
            if start.fuses and learns:
                break
            return None
        parts = all(risen_values(trace) >> source & 1 for source in op.inputs)
        if not passes(op.name) or not (parts or len(set(op.inputs)) == 1):
            break
        value = made
    if not start.fuses and any(_is_fusion(trace, trace.ops[user]) for user in trace.users(value)):
        return None
    made_by = _made_by(trace, value)
    if made_by is not None:
        return Node(start, value, made_by, "after")
    # a function makes the map: after the one layer of the level that reads it, or before its reader
    readers = [call for call in trace.taking(value) if call.parent >= 0]
    outer = [c for c in readers if not any(c.index in other.inside for other in readers)]
    layers = [call for call in outer if _is_layer(trace, call, value)]
    if len(layers) == 1:
        return Node(start, layers[0].outputs[0], layers[0], "after")
    return Node(start, value, only_reader(trace, value), "before")


def _is_fusion(trace: Trace, op: Op) -> bool:
    """Whether an operation fuses, or runs in a unit that does as a whole."""
    unit = closed_by(trace).get(op.index)
    made = {*op.outputs, *(unit.outputs if unit is not None else ())}
    return bool(made & fusions(trace))


def _is_within_unit(trace: Trace, call: Call) -> bool:
    unit = closed_by(trace).get(call.first_op)
    return unit is not None and call.index in unit.inside


def _only_op(trace: Trace, value: int) -> Op | None:
    """The operation that alone reads a map, if it makes a map."""
    users = trace.users(value)
    op = trace.ops[users[0]] if len(users) == 1 else None
    return op if op is not None and op.outputs and trace.values[op.outputs[0]].is_map else None


def _made_by(trace: Trace, value: int) -> Call | None:
    """The module, called once, that makes a map: the outermost of those that return it."""
    made = [call for call in trace.returning(value) if call.ops and call.parent >= 0]
    once = [call for call in made if trace.times_called[call.path] == 1]
    return once[0] if once else None


def _only_module(trace: Trace, value: int) -> Call | None:
    """The layer or block of the same level, called once, that alone reads a map.

    What a module that changes the level begins with prepares the next one, and is none. Only where
    a module holds fusions, as a whole decoder does, is it looked into.
    """
    users = trace.users(value)
    for call in trace.taking(value):
        if users and all(user in call.ops for user in users):
            if _is_layer(trace, call, value):
                return None if _is_within_unit(trace, call) else call
            made = {out for index in call.ops for out in trace.ops[index].outputs}
            if call.parent >= 0 and not made & fusions(trace):
                return None
    return None


def _is_layer(trace: Trace, call: Call, value: int) -> bool:
    """Whether a module makes another map of the level of the one that it is given, for no head."""
    output = trace.output_map(call)
    if call.parent < 0 or output is None or len(set(call.inputs)) != 1 or not call.ops:
        return False
    if trace.times_called[call.path] > 1 or call.outputs[0] in _scores(trace):
        return False
    if any(call.index in (part.index, *part.inside) for part in _head_calls(trace)):
        return False
    inner = {out for index in call.ops for out in trace.ops[index].outputs}
    is_result = trace.outputs == call.outputs
    return same_level(output, trace.values[value]) and not is_result and not inner & fusions(trace)
