"""Ancestors and dominators in the graph of values, and which of these are bent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from attnzoo.structure.operations import is_linear, statistic
from attnzoo.tracing import Trace

__all__ = [
    "ancestors",
    "chain",
    "computed_once",
    "dominators",
    "nonlinear_values",
    "used_values",
]

Result = TypeVar("Result")


def computed_once(function: Callable[[Trace], Result]) -> Callable[[Trace], Result]:
    """Keep the result of a function of a trace on the trace itself."""
    name = f"_{function.__module__}.{function.__name__}"  # ty: ignore[missing-attribute]

    @functools.wraps(function)
    def cached(trace: Trace) -> Result:
        if name not in trace.__dict__:
            trace.__dict__[name] = function(trace)
        return trace.__dict__[name]

    return cached


@computed_once
def ancestors(trace: Trace) -> list[int]:
    """Per value, the set of values it was computed from, itself included, as the bits of an int."""
    sets: list[int] = []
    for index, value in enumerate(trace.values):
        bits = 1 << index
        if value.op >= 0:
            for source in trace.ops[value.op].inputs:
                bits |= sets[source]
        sets.append(bits)
    return sets


@computed_once
def used_values(trace: Trace) -> int:
    """The values that an output of the model is computed from, as the bits of an int.

    All of them, where the forward pass could not be followed to its end.
    """
    if trace.stopped or not trace.outputs:
        return (1 << len(trace.values)) - 1
    sets, bits = ancestors(trace), 0
    for value in trace.outputs:
        bits |= sets[value]
    return bits


@computed_once
def nonlinear_values(trace: Trace) -> int:
    """The values made by an operation that is not known to be linear, as the bits of an int.

    A product of two values that both depend on the input counts: gates are not linear. A norm that
    is written out does not, with the squares and roots of its statistics.
    """
    sets, bits, spared = ancestors(trace), 0, 0
    for op in trace.ops:
        if not is_linear(trace, op):
            for value in op.outputs:
                bits |= 1 << value
            continue
        by = statistic(trace, op)
        if by is not None:
            normed = next(value for value in op.inputs if value != by)
            spared |= sets[by] & ~sets[normed]
    return bits & ~spared


@computed_once
def dominators(trace: Trace) -> list[int]:
    """Per value, the last value that every path from the model's inputs to it passes (or -1).

    Cooper, Harvey and Kennedy's intersection; one sweep is enough as values are in topological
    order.
    """
    closest: list[int] = []
    depth: list[int] = []
    for value in trace.values:
        sources = trace.ops[value.op].inputs if value.op >= 0 else ()
        if not sources:
            closest.append(-1)
            depth.append(0)
            continue
        meet = sources[0]
        for source in sources[1:]:
            while meet != source and meet >= 0 and source >= 0:
                if depth[meet] >= depth[source]:
                    meet = closest[meet]
                else:
                    source = closest[source]
            if meet != source:
                meet = -1
        closest.append(meet)
        depth.append(depth[meet] + 1 if meet >= 0 else 1)
    return closest


def chain(trace: Trace, value: int) -> frozenset[int]:
    """The values that every path from the model's inputs to `value` passes, itself included."""
    closest, passed = dominators(trace), set()
    while value >= 0:
        passed.add(value)
        value = closest[value]
    return frozenset(passed)
