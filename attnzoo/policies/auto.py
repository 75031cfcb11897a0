"""The policy that chooses a policy."""

from __future__ import annotations

from typing import Any

from attnzoo.policies.usable import in_any_round, usable
from attnzoo.registry import POLICIES, register_policy
from attnzoo.structure import mbconvs, residual_blocks, transitions
from attnzoo.tracing import Site, Trace

__all__ = ["auto", "choose"]


def choose(trace: Trace, *, shared: bool = False) -> str:
    """The policy that fits the architecture, by its structure.

    A policy whose places can't take a block does not fit: residual blocks that return a tuple, as
    those of DPN, have no place after them, but one on their branch. Pools fit where at least half
    of the resolution levels end in one, for that of a stem alone makes no VGG; transitions where
    they lead to half.
    """

    def sites(name: str, **options: Any) -> list[Site]:
        find = POLICIES[name].find
        found = in_any_round(trace, find, options) if shared else find(trace, **options)
        kept = (usable(trace, item, shared=shared) for item in found)
        return [item for item in kept if isinstance(item, Site)]

    dense = transitions(trace)
    if dense:
        # No two stages end at one height, so that often the ends themselves need not be found.
        heights = {value.height for value in trace.values if value.is_map}
        known = not shared and 2 * len(dense) >= len(heights) - 1
        if known or 2 * len(dense) >= len(sites("stage-end")) - 1:
            return "transition"
    inverted, residual = mbconvs(trace), sites("post-residual")
    if inverted and 2 * len(inverted) >= len(residual):
        return "mbconv"
    if residual and 2 * len(residual) >= len(residual_blocks(trace)):
        return "post-residual"
    if sites("in-residual"):
        return "in-residual"
    ends = sites("stage-end")
    if 2 * len(sites("pre-pool", trunk_only=True)) >= max(len(ends), 1):
        return "pre-pool"
    return "pre-pool" if not ends and sites("pre-pool") else "stage-end"


@register_policy("auto", source="by structure", delegate=choose)
def auto(trace: Trace) -> list[Any]:
    """What fits the architecture.

    `transition` for DenseNets, `mbconv` for MBConv networks, `post-residual` for residual ones
    (`in-residual` where their blocks return several tensors), `pre-pool` for VGG-like ones, else
    `stage-end`, or what has a place at all.
    """
    return POLICIES[choose(trace)].find(trace)
