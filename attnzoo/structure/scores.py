"""What a network returns of a last convolution: an image, a mask or scores, and no features."""

from __future__ import annotations

import functools

from attnzoo.structure.graph import computed_once
from attnzoo.tracing import Trace

__all__ = ["returned_values"]

_NAMES = (
    "add sub mul div sigmoid tanh clamp hardtanh _softmax _log_softmax view _unsafe_view squeeze "
    "permute clone upsample_bilinear2d upsample_nearest2d pixel_shuffle"
)
#: What may stand between a network's last convolution and what it returns; after a ReLU it would
#: be a feature map.
_TO_OUTPUT = frozenset(_NAMES.split())


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
