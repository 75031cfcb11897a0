"""Transition layers of densely connected networks: they narrow a dense block's concatenation."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import computed_once
from attnzoo.structure.pools import pool_calls
from attnzoo.structure.trunk import on_trunk
from attnzoo.trace import Call, Op, Trace

__all__ = ["Transition", "transitions"]

#: What may stand between the concatenation and the convolution: norm and activation.
_BETWEEN = 6

#: A concatenation is dense if this share of what it joins goes into other concatenations too.
_DENSE = 0.5


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition layer: its convolution's call, and the pool after it, if there is one."""

    convolution: Call
    pool: Call | None


@computed_once
def transitions(trace: Trace) -> tuple[Transition, ...]:
    """The transition layers of a densely connected network, in forward order.

    That is a convolution on the trunk which narrows the concatenation of a dense block. A pool
    follows, or the convolution strides itself (RDNet).
    """
    pools = {pool.inputs[0]: pool for pool in pool_calls(trace)}
    found = []
    for op in trace.ops:
        if op.name == "convolution" and op.groups == 1 and op.weight[0] < op.weight[1]:
            value = op.outputs[0]
            if on_trunk(trace, value) and _from_dense_concatenation(trace, op.inputs[0]):
                found.append(Transition(trace.calls[op.call], pools.get(value)))
    return tuple(found)


def _from_dense_concatenation(trace: Trace, value: int) -> bool:
    for _ in range(_BETWEEN):
        made_by = trace.values[value].op
        if made_by < 0:
            return False
        op = trace.ops[made_by]
        if op.name == "cat":
            again = sum(_concatenations(trace, source) > 1 for source in op.inputs)
            return len(op.inputs) > 2 and again >= _DENSE * len(op.inputs)
        if len(op.inputs) != 1 or op.name == "convolution":
            return False
        value = op.inputs[0]
    return False


def _concatenations(trace: Trace, value: int) -> int:
    ops: list[Op] = [trace.ops[user] for user in trace.users(value)]
    return sum(op.name == "cat" for op in ops)
