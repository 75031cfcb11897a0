"""What a network returns of a last convolution: an image, a mask or scores, and no features."""

from __future__ import annotations

import functools

from attnzoo.structure.graph import computed_once
from attnzoo.tracing import Call, Trace

__all__ = ["handed_out", "is_scored", "returned_values"]

_NAMES = (
    "add sub mul div sigmoid tanh clamp hardtanh _softmax _log_softmax view _unsafe_view squeeze "
    "permute clone upsample_bilinear2d upsample_nearest2d pixel_shuffle"
)
#: What may stand between a network's last convolution and what it returns; after a ReLU it would
#: be a feature map.
_TO_OUTPUT = frozenset(_NAMES.split())


@computed_once
def handed_out(trace: Trace) -> frozenset[int]:
    """What a network returns, and the maps that are only shown in another way for it."""
    found: set[int] = set()
    waiting = list(trace.outputs)
    while waiting:
        value = waiting.pop()
        found.add(value)
        op = trace.ops[trace.values[value].op] if trace.values[value].op >= 0 else None
        if op is not None and op.name in _TO_OUTPUT and len(set(op.inputs)) == 1:
            waiting.append(op.inputs[0])
    return frozenset(found)


def is_scored(trace: Trace, call: Call) -> bool:
    """Whether a module with layers inside makes fewer channels than it takes, to be returned."""
    given, made = trace.input_map(call), trace.output_map(call)
    if given is None or made is None or call.outputs[0] not in handed_out(trace):
        return False
    return made.channels < given.channels and trace.info(call).has_parameters


@computed_once
def returned_values(trace: Trace) -> frozenset[int]:
    """What a last convolution makes, and what of that the network returns, summed up or scaled."""
    found: set[int] = set()

    @functools.cache
    def comes_from_one(value: int) -> bool:
        made_by = trace.values[value].op
        op = trace.ops[made_by] if made_by >= 0 else None
        if op is not None and op.name == "convolution":
            found.add(value)
        elif op is not None and op.name in _TO_OUTPUT:
            parts = [comes_from_one(source) for source in op.inputs]
            if any(parts):
                found.add(value)
        return value in found

    for output in trace.outputs:
        comes_from_one(output)
    return frozenset(found)
