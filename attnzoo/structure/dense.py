"""Transition layers of densely connected networks: they narrow a dense block's concatenation."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import computed_once
from attnzoo.structure.pools import pool_calls
from attnzoo.structure.trunk import on_trunk, on_way_down
from attnzoo.tracing import LEVEL_RATIO, Call, Op, Trace

__all__ = ["Transition", "transitions"]

#: What may stand between the concatenation and the convolution: norm and activation.
_BETWEEN = 6

#: A concatenation is dense if this share of what it joins goes into other concatenations too.
_DENSE = 0.5


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition layer: its convolution's call, and the pool after it, if a module pools."""

    convolution: Call
    pool: Call | None


@computed_once
def transitions(trace: Trace) -> tuple[Transition, ...]:
    """The transition layers of a densely connected network, in forward order.

    That is a convolution on the trunk, or on the way down of an encoder, which narrows the
    concatenation of a dense block. A pool follows, a function pools, the convolution strides itself
    or another dense block follows (RDNet).
    """
    pools = {pool.inputs[0]: pool for pool in pool_calls(trace)}
    found = []
    for op in trace.ops:
        if op.name == "convolution" and op.groups == 1 and op.weight[0] < op.weight[1]:
            value = op.outputs[0]
            passed = on_trunk(trace, value) or on_way_down(trace, value)
            if not passed or not _from_dense_concatenation(trace, op.inputs[0]):
                continue
            if value in pools or _shrinks(trace, op) or _is_joined_again(trace, value):
                found.append(Transition(trace.calls[op.call], pools.get(value)))
    return tuple(found)


def _shrinks(trace: Trace, convolution: Op) -> bool:
    """Whether a convolution, or what reads its map, makes it smaller."""
    given, made = trace.values[convolution.inputs[0]], convolution.outputs[0]
    if not given.is_map:
        return False
    readers = (trace.ops[user] for user in trace.users(made))
    maps = (trace.values[value] for value in (made, *(v for op in readers for v in op.outputs)))
    return any(value.is_map and value.height * LEVEL_RATIO <= given.height for value in maps)


def _from_dense_concatenation(trace: Trace, value: int) -> bool:
    for _ in range(_BETWEEN):
        made_by = trace.values[value].op
        if made_by < 0:
            return False
        op = trace.ops[made_by]
        if op.name == "cat":
            features = _features(trace, op)
            again = sum(_is_joined_again(trace, feature) for feature in features)
            return len(features) > 2 and again >= _DENSE * len(features)
        if len(op.inputs) != 1 or op.name == "convolution":
            return False
        value = op.inputs[0]
    return False


def _features(trace: Trace, cat: Op) -> list[int]:
    """What a concatenation joins, and what was joined before: `cat(new, cat(newer, …))`.

    A concatenation within one counts as several features if it is a layer's input itself.
    """
    features = []
    for value in cat.inputs:
        op = trace.ops[trace.values[value].op] if trace.values[value].op >= 0 else None
        if op and op.name == "cat" and any(not is_cat for is_cat in _readers(trace, value)):
            features += _features(trace, op)
        else:
            features.append(value)
    return features


def _is_joined_again(trace: Trace, value: int) -> bool:
    """Whether a value goes into several concatenations, one around the other perhaps."""
    joins = [trace.ops[user] for user in trace.users(value) if trace.ops[user].name == "cat"]
    return len(joins) > 1 or any(any(_readers(trace, cat.outputs[0])) for cat in joins)


def _readers(trace: Trace, value: int) -> list[bool]:
    """Of each operation that reads a value, whether it is a concatenation."""
    return [trace.ops[user].name == "cat" for user in trace.users(value)]
