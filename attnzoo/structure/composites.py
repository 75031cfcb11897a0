"""Blocks of blocks: they run smaller ones and join what each makes (C2f, C3k2, CSP, ELAN).

Such a block returns a concatenation of maps, narrowed perhaps, of which one was computed from
another, or which has residual additions inside. A dense block, whose features are joined again and
again, is none, and neither are branches side by side that share no more than their input.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import ancestors, computed_once, nonlinear_values
from attnzoo.structure.residual import Addition, residual_additions
from attnzoo.tracing import Call, Op, Trace

__all__ = ["Composite", "Inner", "composites"]

#: Convolutions of more than a pixel that such a block has at least: a ghost module has one.
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Inner:
    """A smaller block: its module, and its residual addition, if it has one."""

    call: Call
    addition: Addition | None


@dataclass(frozen=True, slots=True)
class Composite:
    """A block of blocks, with the smaller ones in forward order."""

    call: Call
    inner: tuple[Inner, ...]


@computed_once
def composites(trace: Trace) -> tuple[Composite, ...]:
    """The blocks of blocks of a network, outermost ones, in forward order."""
    additions = residual_additions(trace)
    possible: dict[int, Composite] = {}
    kinds: set[str] = set()
    for op in trace.ops:
        call = _joined_by(trace, op)
        if call is None or call.index in possible:
            continue
        branches = [Inner(host, one) for host, one in additions if host.index in call.inside]
        inner = [*branches, *(Inner(step, None) for step in _steps(trace, op, call, branches))]
        if inner:
            inner.sort(key=lambda one: (one.call.last, one.addition.op if one.addition else 0))
            possible[call.index] = Composite(call, tuple(inner))
            if branches or (_is_chain(trace, op) and _convolves(trace, inner) >= _LEAST):
                kinds.add(trace.info(call).qualname)
    found, covered = [], set[int]()
    for index, composite in sorted(possible.items()):
        if index not in covered and trace.info(composite.call).qualname in kinds:
            covered.update(composite.call.inside)
            found.append(composite)
    return tuple(found)


def _joined_by(trace: Trace, op: Op) -> Call | None:
    """The module whose result is, but for what narrows it, the concatenation that `op` makes."""
    if op.name != "cat" or op.call < 0 or len(set(op.inputs)) < 2:
        return None
    call = trace.calls[op.call]
    if trace.info(call).kind == "leaf" and call.parent >= 0:
        call = trace.calls[call.parent]  # a `Concat()` module
    maps = [trace.values[value] for value in (*op.inputs, *op.outputs)]
    one_size = all(value.is_map for value in maps)
    one_size = one_size and len({(value.height, value.width) for value in maps}) == 1
    output = trace.output_map(call)
    if call.parent < 0 or not one_size or output is None or trace.info(call).kind != "composite":
        return None
    if len(set(call.inputs)) != 1:  # a cell that is given two maps (NASNet)
        return None
    joined_again = any(_is_joined(trace, value, op) for value in (*op.inputs, *op.outputs))
    own = all(trace.values[value].op in call.ops for value in op.inputs)
    leads_out = ancestors(trace)[call.outputs[0]] >> op.outputs[0] & 1
    return call if own and leads_out and not joined_again else None


def _is_joined(trace: Trace, value: int, op: Op) -> bool:
    """Whether a map goes into another concatenation than `op`, as the features of a dense block."""
    joins = (trace.ops[user] for user in trace.users(value))
    return any(other.name == "cat" and other.index != op.index for other in joins)


def _is_chain(trace: Trace, op: Op) -> bool:
    """Whether one of the maps joined is computed from another, or from a part of the same map."""
    sets, sources = ancestors(trace), [_part_of(trace, value) for value in op.inputs]
    pairs = [(one, other) for one in sources for other in sources if one != other]
    return any(sets[one] >> other & 1 for one, other in pairs)


def _part_of(trace: Trace, value: int) -> int:
    """The map that a value is a slice of."""
    while (made_by := trace.values[value].op) >= 0:
        op = trace.ops[made_by]
        if not op.name.startswith(("split", "slice", "chunk", "narrow", "select")):
            break
        value = op.inputs[0]
    return value


def _steps(trace: Trace, op: Op, call: Call, branches: list[Inner]) -> list[Call]:
    """The modules called by a block, with wide convolutions, that make what it joins.

    Without those that have residual additions inside, or beside them in one sequence: there the
    branches are meant.
    """
    sets, made = ancestors(trace), [_part_of(trace, value) for value in op.inputs]
    bent, found = nonlinear_values(trace), []
    hosts = {one.call.index for one in branches}
    for step in (trace.calls[index] for index in call.inside):
        if trace.output_map(step) is None or trace.info(step).kind != "composite":
            continue
        around = _sequences(trace, step, call)
        if around is None or any(hosts.intersection((one.index, *one.inside)) for one in around):
            continue
        on_way = [sets[value] >> step.outputs[0] & 1 for value in made]
        values = (value for index in step.ops for value in trace.ops[index].outputs)
        bends = any(bent >> value & 1 for value in values)
        if bends and _wide(trace, step) and any(on_way) and not all(on_way):
            found.append(step)
    return found


def _sequences(trace: Trace, step: Call, call: Call) -> list[Call] | None:
    """A module and the plain sequences around it within a block; None if more is around it."""
    found = [step]
    for around in trace.enclosing(step):
        if around.index == call.index:
            return found
        if trace.info(around).kind != "sequential":
            return None
        found.append(around)
    return None


def _wide(trace: Trace, call: Call) -> int:
    """How many convolutions of more than a pixel a module runs, depthwise ones aside."""
    convs = (trace.ops[index] for index in call.ops if trace.ops[index].name == "convolution")
    return sum(max(op.kernel, default=1) > 1 and op.weight[1] > 1 for op in convs)


def _convolves(trace: Trace, inner: list[Inner]) -> int:
    return sum(_wide(trace, call) for call in {one.call.index: one.call for one in inner}.values())
