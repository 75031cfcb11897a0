"""The modules that mean the same place, and why a place that is passed several times is none.

A place is the set of operations (and model outputs) that would see the attended feature map. Two
anchors, "after this module" or "before that one", are the same place if those sets are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnzoo.errors import SiteError
from attnzoo.structure.graph import computed_once, used_values
from attnzoo.structure.trunk import MIXES
from attnzoo.tracing import Call, Site, Trace, Where

__all__ = [
    "OR_SHARED",
    "Anchor",
    "anchors",
    "anchors_at_all_calls",
    "at_all_calls",
    "called_often",
    "is_read",
    "parts_called_often",
]

#: Stands for "the model returns it" in the set of those who see a value.
_RETURNED = -1
#: Advice besides, where that was not asked for.
OR_SHARED = ", or let one block act at all of them, shared=True"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A module call and the side of it on which the feature map is taken."""

    call: Call
    where: Where


def anchors(trace: Trace, site: Site) -> list[Anchor]:
    """The anchors at the same place as `site`, itself first.

    Parts of attention are none unless there are no others: it may be taken out by itself, and what
    stands on its parts would go with it.
    """
    own = Anchor(trace.calls[site.call], site.where)
    seen_by = _seen_by(trace, own, site.value)
    found = [own]
    found += (Anchor(call, "after") for call in trace.returning(site.value))
    taking = (call for call in trace.taking(site.value) if call.index not in trace.altering)
    found += (Anchor(call, "before") for call in taking)
    same = [a for a in dict.fromkeys(found) if _seen_by(trace, a, site.value) == seen_by]
    return [anchor for anchor in same if not _is_part_of_attention(trace, anchor.call)] or same


def _is_part_of_attention(trace: Trace, call: Call) -> bool:
    return any(trace.info(outer).is_attention for outer in trace.enclosing(call))


def _seen_by(trace: Trace, anchor: Anchor, value: int) -> frozenset[int]:
    """The operations that would read an attended map at `anchor` where they read `value` now."""
    call = anchor.call
    passes_on = anchor.where == "after" or value in call.outputs
    begin = call.end_op if anchor.where == "after" else call.first_op
    end = len(trace.ops) if passes_on else call.end_op
    readers = {op for op in trace.users(value) if begin <= op < end}
    if passes_on and value in trace.outputs:
        readers.add(_RETURNED)
    return frozenset(readers)


def is_read(trace: Trace, site: Site) -> bool:
    """Whether what the model returns depends on the map at a place, as it is from there on.

    Taken for granted where the forward pass could not be followed to its end.
    """
    call, used = trace.calls[site.call], used_values(trace)
    if trace.stopped:
        return True
    if site.where == "replace":
        return any(used >> value & 1 for value in call.outputs)
    readers = _seen_by(trace, Anchor(call, site.where), site.value)
    made = (value for op in readers - {_RETURNED} for value in trace.ops[op].outputs)
    return _RETURNED in readers or any(used >> value & 1 for value in made)


def called_often(trace: Trace, site: Site, *, shared: bool = False) -> str:
    """Why attention at a place would act at several, and what to do; "" if it would not.

    Where `shared` was asked for already, nobody is told to ask for it.
    """
    own = trace.calls[site.call]
    # Nothing can stand around the model itself, which runs once.
    if not own.path or (_passed_once(trace, own) and not _is_part_of_attention(trace, own)):
        return ""
    same = [Anchor(own, "replace")] if site.where == "replace" else anchors(trace, site)
    if any(_passed_once(trace, anchor.call) for anchor in same if anchor.call.path):
        return ""
    times = trace.times_called[own.path]
    return (
        f"{own.path!r} is called {times} times in one forward pass, and attention there would act "
        f"at all of them: {_advice(trace, own)}{'' if shared else OR_SHARED}"
    )


def at_all_calls(trace: Trace, site: Site) -> Site | str:
    """A place that is passed several times, for one block that acts each time; or why not."""
    own = trace.calls[site.call]
    same = [Anchor(own, "replace")] if site.where == "replace" else anchors(trace, site)
    held = [anchor for anchor in same if anchor.call.path]
    least = min(held, key=lambda anchor: len(_calls_of(trace, anchor.call)), default=None)
    if least is None:
        return "the model itself is the only module there, and nothing can stand around it"
    call, calls = least.call, _calls_of(trace, least.call)
    parent = trace.parent(call)
    seldom = parent is None or len(_calls_of(trace, parent)) < len(calls)
    if seldom and trace.info(call).kind == "leaf" and not trace.info(call).has_state:
        return f"{call.path!r} has no weights and is used at {len(calls)} places"
    make = {"after": trace.after, "before": trace.before, "replace": trace.replace}[least.where]
    try:
        sites = [make(one) for one in calls]
    except SiteError as error:
        return str(error)
    if len({(one.channels, one.axes) for one in sites}) > 1:
        return f"the maps of the {len(calls)} calls of {call.path!r} have other channels"
    return replace(sites[0], further=tuple(one.value for one in sites[1:]))


def anchors_at_all_calls(trace: Trace, site: Site) -> list[Anchor]:
    """The anchors at the same place as a site, each time that it is passed."""
    calls = _calls_of(trace, trace.calls[site.call])
    if site.where == "replace" or len(calls) == 1:
        return anchors(trace, site)
    each = [replace(site, call=c.index, value=v) for c, v in zip(calls, site.values, strict=True)]
    names = [{(a.call.path, a.where) for a in anchors(trace, one)} for one in each]
    return [
        anchor
        for anchor in anchors(trace, site)
        if len(_calls_of(trace, anchor.call)) == len(calls)
        and all((anchor.call.path, anchor.where) in those for those in names)
    ]


def _calls_of(trace: Trace, call: Call) -> list[Call]:
    return _calls_by_path(trace)[call.path]


@computed_once
def _calls_by_path(trace: Trace) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    for call in trace.calls:
        found.setdefault(call.path, []).append(call)
    return found


def _passed_once(trace: Trace, call: Call) -> bool:
    """Whether a module, or the sequence that it is an entry of, runs once: as the root does."""
    parent = trace.parent(call)
    entry = parent is not None and trace.info(parent).kind == "sequential"
    return trace.times_called[call.path] == 1 or (
        entry and parent is not None and trace.times_called[parent.path] == 1
    )


def _advice(trace: Trace, call: Call) -> str:
    """What to type: the outermost part around that is called several times can be wrapped alone."""
    repeated = [c for c in (call, *trace.enclosing(call)) if trace.times_called[c.path] > 1]
    part = next(first for first in trace.calls if first.path == repeated[-1].path)
    if trace.info(part).kind == "leaf":
        return "put what is repeated into a module of its own, and wrap that, or name another place"
    direct = all(name.isidentifier() for name in part.path.split("."))
    module = f"model.{part.path}" if direct else f'model.get_submodule("{part.path}")'
    shapes = [trace.values[value].shape for value in part.inputs]
    one_map = part.takes_tensor and len(shapes) == 1 and len(shapes[0]) in (4, 5)
    example = str(shapes[0][1:]) if one_map else "…"
    return f"wrap the part, `attnzoo.wrap({module}, …, example={example})`"


@computed_once
def parts_called_often(trace: Trace) -> dict[str, str]:
    """Parts with layers that run several times, outermost ones: their paths, and what to do."""
    found: dict[str, str] = {}
    for call in trace.calls[1:]:
        mixes = any(trace.ops[index].name in MIXES for index in call.ops)
        times = trace.times_called[call.path]
        around = (trace.times_called[outer.path] for outer in trace.enclosing(call))
        if mixes and times > 1 and not any(count > 1 for count in around):
            text = f"it is called {times} times in one forward pass: {_advice(trace, call)}"
            found.setdefault(call.path, text)
    return found
