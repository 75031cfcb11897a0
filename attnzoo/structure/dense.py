"""Transition layers of DenseNet: a 1×1 convolution and a pool, on a concatenation of features."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.structure.graph import computed_once
from attnzoo.structure.pools import pool_calls
from attnzoo.trace import Call, Trace

__all__ = ["Transition", "transitions"]

#: What may stand between the concatenation and the 1×1 convolution: norm and activation.
_BETWEEN = 6


@dataclass(frozen=True, slots=True)
class Transition:
    """A transition layer and the pool at its end."""

    call: Call
    pool: Call


@computed_once
def transitions(trace: Trace) -> tuple[Transition, ...]:
    """The transition layers of a densely connected network, in forward order."""
    found = []
    for pool in pool_calls(trace):
        host = trace.parent(pool)
        if host is not None and host.parent >= 0 and pool.outputs == host.outputs:
            made_by = trace.values[pool.inputs[0]].op
            op = trace.ops[made_by] if made_by >= 0 else None
            pointwise = op is not None and op.name == "convolution" and set(op.kernel) == {1}
            if op is not None and pointwise and made_by in host.ops:
                narrows = op.weight[0] < op.weight[1]
                if narrows and _from_concatenation(trace, op.inputs[0]):
                    found.append(Transition(host, pool))
    return tuple(found)


def _from_concatenation(trace: Trace, value: int) -> bool:
    for _ in range(_BETWEEN):
        made_by = trace.values[value].op
        if made_by < 0:
            return False
        op = trace.ops[made_by]
        if op.name == "cat":
            return True
        if len(op.inputs) != 1 or op.name == "convolution":
            return False
        value = op.inputs[0]
    return False
