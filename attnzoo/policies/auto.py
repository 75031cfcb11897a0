"""The policy that chooses a policy."""

from __future__ import annotations

from typing import Any

from attnzoo.registry import POLICIES, register_policy
from attnzoo.structure import mbconvs, on_trunk, pool_calls, residual_blocks, transitions
from attnzoo.trace import Trace

__all__ = ["auto", "choose"]


def choose(trace: Trace) -> str:
    """The policy that fits the architecture, by its structure.

    Residual blocks that return a tuple, as those of EfficientViM, have no place after them.
    """
    if transitions(trace):
        return "transition"
    inverted = mbconvs(trace)
    residual = [block for block in residual_blocks(trace) if trace.output_map(block.call)]
    if inverted and 2 * len(inverted) >= len(residual):
        return "mbconv"
    if residual:
        return "post-residual"
    if any(on_trunk(trace, pool.outputs[0]) for pool in pool_calls(trace)):
        return "pre-pool"
    return "stage-end"


@register_policy("auto", source="by structure", delegate=choose)
def auto(trace: Trace) -> list[Any]:
    """What fits the architecture.

    `transition` for DenseNets, `mbconv` for MBConv networks, `post-residual` for residual ones,
    `pre-pool` for VGG-like ones, else `stage-end`.
    """
    return POLICIES[choose(trace)].find(trace)
