"""The head: what makes the scores that a network returns, found by going back from them."""

from __future__ import annotations

from attnzoo.structure.operations import passes
from attnzoo.tracing import Trace

__all__ = ["head_paths"]

MAKERS = ("addmm", "convolution", "linear", "matmul", "mm")
"""Operations that mix channels; what they make is a new meaning."""

RESHAPES = ("flatten", "mean", "permute", "reshape", "squeeze", "transpose", "unsqueeze", "view")
POOLS = ("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "avg_pool2d", "amax", "max_pool2d")
SCALES = ("log_softmax", "_log_softmax", "softmax", "_softmax", "div", "mul", "add", "clone")
CROSSED = frozenset((*RESHAPES, *POOLS, *SCALES, "alias", "contiguous", "dropout"))


def head_paths(trace: Trace) -> tuple[str, ...]:
    """Paths of the linear layers, or convolutions of one pixel, that make what a network returns.

    Several where their outputs are averaged. Empty where the network returns something else than
    scores, or makes them without a layer of its own.
    """
    if len(trace.outputs) != 1:
        return ()
    found: dict[str, None] = {}
    waiting, seen = [trace.outputs[0]], set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        made_by = trace.values[value].op
        if made_by < 0:
            return ()
        op = trace.ops[made_by]
        if op.name in MAKERS:
            call = trace.calls[op.call]
            if trace.info(call).kind != "leaf" or any(size != 1 for size in op.weight[2:]):
                return ()
            found[call.path] = None
        elif op.name in CROSSED or passes(op.name):
            waiting += op.inputs
        else:
            return ()
    return tuple(found)
