"""Policies for what comes after the way down: necks of detectors and decoders."""

from __future__ import annotations

from collections.abc import Sequence

from attnzoo.checks import check_choice, check_int
from attnzoo.errors import OptionError, SiteError
from attnzoo.policies.filters import as_list
from attnzoo.registry import register_policy
from attnzoo.structure import (
    Level,
    Node,
    decoder_nodes,
    decoder_skips,
    neck_levels,
    nodes,
    stride,
)
from attnzoo.tracing import Site, Skipped, Trace

__all__ = ["decoder", "neck"]

Found = list[Site | Skipped]


@register_policy(
    "neck",
    source="FPN (2017), PANet (2018)",
    looks_for="levels that a neck hands to a head",
)
def neck(trace: Trace, at: str = "head", levels: int | Sequence[int] | None = None) -> Found:
    """On the levels of a feature pyramid or a path aggregation, before the head.

    `at="head"` takes what the head is given, a place for each level: what a level further in the
    neck reads of it is attended, too. `at="fusion"` takes what each level makes of every fusion,
    before another level or the head reads it.

    Args:
        trace: of the network.
        at: `"head"` or `"fusion"`.
        levels: keep those of these strides, such as 8 or `[16, 32]`; None for all.
    """
    check_choice("policy 'neck'", "at", at, ("head", "fusion"))
    wanted = None if levels is None else as_list(levels)
    for level in wanted or []:
        check_int("policy 'neck'", "levels", level, minimum=1)
    given = neck_levels(trace)
    if not given:
        return []
    places: Sequence[Level | Node] = given if at == "head" else nodes(trace)
    strides = [stride(trace, trace.values[place.value]) for place in places]
    missing = sorted(set(wanted or []) - set(strides))
    if missing:
        there = ", ".join(map(str, sorted(set(strides))))
        raise OptionError(
            f"policy 'neck': levels={levels!r}: {trace.model} has no level of stride "
            f"{', '.join(map(str, missing))} there. It has {there}."
        )
    return [
        _level(trace, place) if isinstance(place, Level) else _node(trace, place)
        for place, step in zip(places, strides, strict=True)
        if wanted is None or step in wanted
    ]


@register_policy("decoder", source="U-Net (2015)", looks_for="decoder blocks")
def decoder(trace: Trace, on: str = "block") -> Found:
    """After every block of a decoder, or on what it takes from the encoder.

    `on="block"` takes what each level of the decoder makes before the next finer one reads it.
    `on="skip"` takes the maps that skip connections bring: where a layer makes that map for the
    decoder alone, only the decoder sees the attention, else the next coarser level does, too.

    Args:
        trace: of the network.
        on: `"block"` or `"skip"`.
    """
    check_choice("policy 'decoder'", "on", on, ("block", "skip"))
    if on == "skip":
        return [_level(trace, skip) for skip in decoder_skips(trace)]
    return [_node(trace, node) for node in decoder_nodes(trace)]


def _node(trace: Trace, node: Node) -> Site | Skipped:
    if node.call is None:
        value = trace.values[node.value]
        return Skipped(
            "", f"a function makes the map at {value.height}×{value.width}, and several read it"
        )
    try:
        return trace.before(node.call) if node.where == "before" else trace.after(node.call)
    except SiteError as error:
        return Skipped(node.call.path, str(error))


def _level(trace: Trace, level: Level) -> Site | Skipped:
    if level.call is None:
        value = trace.values[level.value]
        host = trace.calls[max(trace.ops[value.op].call, 0)]
        return Skipped(
            host.path, f"no module makes the map at {value.height}×{value.width}: a function does"
        )
    return trace.after(level.call)
