"""Ancestors and dominators in the graph of values, and the families of operations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from attnzoo.tracing import Trace

__all__ = [
    "NONLINEAR",
    "PASSES",
    "ancestors",
    "chain",
    "computed_once",
    "dominators",
    "nonlinear_values",
    "used_values",
]

Result = TypeVar("Result")

_NAMES = (
    "relu gelu silu sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu elu celu selu mish "
    "_prelu_kernel prelu rrelu_with_noise softplus log_sigmoid_forward threshold clamp clamp_min "
    "clamp_max _softmax softmax softshrink hardshrink"
)
_ACTIVATIONS = frozenset(_NAMES.split())

#: Operations that make a branch more than a linear map.
NONLINEAR = _ACTIVATIONS

_LINEAR = (
    "add sub mul div neg cat slice split split_with_sizes chunk narrow select clone contiguous "
    "permute transpose native_dropout dropout alias detach _to_copy"
)

#: Operations that hand a feature map on, element by element, in parts or joined with others.
PASSES = _ACTIVATIONS | frozenset(_LINEAR.split())


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
    """The values made by a non-linear operation, as the bits of an int.

    A product of two values that both depend on the input counts: gates are not linear.
    """
    bits = 0
    for op in trace.ops:
        gate = op.name == "mul" and len(set(op.inputs)) > 1
        if gate or op.name in NONLINEAR:
            for value in op.outputs:
                bits |= 1 << value
    return bits


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
