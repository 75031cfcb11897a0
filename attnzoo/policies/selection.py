"""From what is asked for to sites: policy calls, the filters all policies share, and why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import attnzoo.policies  # registers them  # noqa: F401
from attnzoo.checks import check_keywords, check_writable, shortened
from attnzoo.errors import NoSitesError, OptionError, SiteError
from attnzoo.policies.filters import FILTERS, check_filters, check_filters_on, filtered
from attnzoo.policies.usable import at_each_call, in_any_round, unless_dead, usable
from attnzoo.registry import POLICIES
from attnzoo.structure import OR_SHARED, parts_called_often
from attnzoo.tracing import Site, Skipped, Trace

__all__ = ["FILTERS", "PolicyCall", "PolicyLike", "Selection", "parse_policies", "select"]

Occupied = Literal["refuse", "skip", "stack"]
PolicyLike = str | tuple[str, Mapping[str, Any]] | Sequence[Any]


@dataclass(frozen=True)
class PolicyCall:
    """A policy by name with its options, filters included."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True)
class Selection:
    """What one policy found in one trace.

    Attributes:
        policy: what was asked, `auto` resolved to the policy it chose.
        asked: the name that was asked for.
        sites: the sites, in forward order.
        skipped: places the policy could not use, and why.
        occupied: what to do where attention is already.
    """

    policy: PolicyCall
    asked: str
    sites: tuple[Site, ...]
    skipped: tuple[Skipped, ...]
    occupied: Occupied


def parse_policies(policy: PolicyLike) -> tuple[PolicyCall, ...]:
    """`"pre-pool"`, `("in-residual", {"stages": [3, 4]})`, or a list of these → policy calls.

    Raises:
        OptionError: if it is of another form, or an option is unknown.
        UnknownNameError: if no policy has that name.
    """
    if isinstance(policy, PolicyCall):
        calls: tuple[PolicyCall, ...] = (policy,)
    elif isinstance(policy, str):
        calls = (PolicyCall(policy),)
    elif _is_pair(policy):
        calls = (PolicyCall(policy[0], dict(policy[1])),)
    elif isinstance(policy, list | tuple) and policy:
        items: list[Any] = list(policy)
        try:
            return tuple(call for item in items for call in parse_policies(item))
        except RecursionError:
            raise OptionError("policy: a list of policies that holds itself has no end.") from None
    else:
        raise OptionError(
            f"policy={shortened(policy)}: pass a name, a pair (name, {{option: value}}), or a list "
            f"of these."
        )
    for call in calls:
        check_writable(f"policy {call.name!r}", call.options)
        known = [*POLICIES[call.name].options, *FILTERS]
        check_keywords(f"policy {call.name!r}", call.options, known)
        check_filters(f"policy {call.name!r}", call.options)
    return calls


def select(trace: Trace, call: PolicyCall) -> Selection:
    """The sites that a policy finds in a trace, filtered.

    Raises:
        NoSitesError: if there are none; the message says why, and which policies have some.
        OptionError: if an option is wrong.
    """
    spec = POLICIES[call.name]
    shared = {"shared": True} if call.options.get("shared") else {}
    name = spec.delegate(trace, **shared) if spec.delegate else call.name
    own = {key: value for key, value in call.options.items() if key not in FILTERS}
    find = POLICIES[name].find
    if shared:
        found = in_any_round(trace, find, own)
    else:
        returned = find(trace, **own)
        found = list(returned) if isinstance(returned, Iterable) else [returned]
    for item in found:
        traced = isinstance(item, Site) and item.call >= 0
        if not traced and not isinstance(item, Skipped):
            raise SiteError(
                f"policy {call.name!r} returned {item!r}; a policy returns a list of sites, made "
                f"by trace.before(call), trace.after(call) or trace.replace(call)."
            )
    told = name == "match"  # what to do: it refuses what can't be done
    found = [unless_dead(trace, item) if told else usable(trace, item, **shared) for item in found]
    if told and shared:
        named, found = found, [at_each_call(trace, item) for item in found]
        for item, there in zip(named, found, strict=True):
            if isinstance(there, Skipped) and isinstance(item, Site):
                raise SiteError(f"cannot put attention {item}: {there.reason}.")
    sites = [item for item in found if isinstance(item, Site)]
    sites.sort(key=lambda site: (site.value, site.call))
    sites = list(dict.fromkeys(sites)) if shared else sites
    skipped = tuple(dict.fromkeys(item for item in found if isinstance(item, Skipped)))
    check_filters_on(trace, f"policy {call.name!r}", call.options)
    kept, dropped = filtered(sites, call.options)
    if not kept:
        raise NoSitesError(_explain(trace, call, name, sites, skipped, dropped))
    resolved = PolicyCall(name, dict(call.options))
    occupied: Occupied = call.options.get("occupied", "refuse")
    return Selection(resolved, call.name, tuple(kept), skipped, occupied)


def _is_pair(policy: Any) -> bool:
    two = isinstance(policy, tuple | list) and len(policy) == 2
    return two and isinstance(policy[0], str) and isinstance(policy[1], Mapping)


def _explain(
    trace: Trace,
    call: PolicyCall,
    name: str,
    sites: list[Site],
    skipped: tuple[Skipped, ...],
    dropped: list[tuple[str, int]],
) -> str:
    """Why there is no site, and what to do instead."""
    shapes = _other_shapes(trace)
    asked = str(call) if name == call.name else f"{call} (→ {name})"
    lines = [f"policy {asked} found no site in {trace.model}."]
    if sites:
        by_filter = ", ".join(f"{text} dropped {count}" for text, count in dropped)
        stages = sorted({site.stage for site in sites})
        lines.append(
            f"Its filters excluded all {len(sites)} sites ({by_filter}). There are sites of "
            f"{min(s.channels for s in sites)} to {max(s.channels for s in sites)} channels at "
            f"stages {', '.join(map(str, stages))}."
        )
    else:
        lines.append(f"It has no {POLICIES[name].looks_for} that can take a block.")
        lines += [f"  at {place}" for place in skipped[:8]]
        lines += _called_often(trace, skipped, "" if call.options.get("shared") else OR_SHARED)
        lines += shapes
    if trace.stopped:
        lines.append(f"The forward pass could be followed only up to: {trace.stopped}")
    others = _others(trace, name)
    if others:
        lines.append(f"Policies that match here: {', '.join(others)}.")
    elif shapes:
        lines.append(
            "No policy matches here, 'match' neither. A network on signals (N, C, L) can be made "
            "one on maps (N, C, 1, L), with the same weights and numbers: see the guide to signals "
            "and volumes."
        )
    else:
        lines.append(
            "No policy matches here; policy 'match' takes any module by path or class name."
        )
    return "\n".join(lines)


def _other_shapes(trace: Trace) -> list[str]:
    """What convolutions make where nothing is a feature map, as in networks on sequences."""
    made = [trace.values[op.outputs[0]] for op in trace.ops if op.name == "convolution"]
    if not made or any(trace.output_map(call) for call in trace.calls):
        return []
    return [f"Its convolutions make {made[0].shape}; blocks take feature maps (N, C, H, W)."]


def _called_often(trace: Trace, skipped: Sequence[Skipped], besides: str) -> list[str]:
    """Parts that run several times, where none of the reasons has said so yet."""
    if any("called" in place.reason for place in skipped):
        return []
    often = list(parts_called_often(trace).items())[:8]
    return [f"  at {path}: {why}{besides}" for path, why in often]


def _others(trace: Trace, tried: str) -> list[str]:
    matching = []
    for spec in POLICIES:
        if spec.name in (tried, "match") or spec.delegate is not None:
            continue
        try:
            count = sum(isinstance(usable(trace, item), Site) for item in spec.find(trace))
        except Exception:  # it needs options, or is broken: neither is what this message is about
            continue
        if count:
            matching.append(f"{spec.name} ({count})")
    return matching
