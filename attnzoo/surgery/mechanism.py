"""How a block gets to its site: the best edit at one of the anchors that mean the same place."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from attnzoo.errors import SiteError
from attnzoo.hosts import (
    SLOTS,
    Attended,
    Attention,
    Replaced,
    get_module,
    has_attribute,
    join,
    prefixes,
    reads_positions,
    run_otherwise,
    split,
)
from attnzoo.structure import Anchor, anchors, anchors_at_all_calls, called_often
from attnzoo.surgery.edits import Edit, Hook, Insert, Replace, Slot, Subclass, Wrap
from attnzoo.surgery.rebuilt import is_lost, rebuilt_around
from attnzoo.tracing import Call, Site, Trace

__all__ = ["choose_edit", "is_occupied"]


def choose_edit(trace: Trace, model: nn.Module, site: Site, taken: set[str]) -> Edit:
    """The edit that puts attention at `site`, by the first mechanism that any anchor allows.

    The order is slot, insert, hook, wrap of a layer without parameters, wrap of a layer with:
    each keeps what the next one gives up.

    Args:
        trace: of `model`.
        model: read, not changed.
        site: the place.
        taken: paths already promised to other attention; the new one is added.

    Raises:
        SiteError: if no anchor can hold attention; the message says why.
    """
    if site.where == "replace":
        edits: Iterable[Edit | None] = (_replace(trace, site),)
    else:
        same = anchors_at_all_calls(trace, site) if site.further else anchors(trace, site)
        makers = (_slot, _insert, _hook, _wrap_stateless, _wrap)
        times = len(site.values)
        edits = (make(trace, model, anchor, taken, times) for make in makers for anchor in same)
    edit = next((found for found in edits if found and not is_lost(trace, model, found)), None)
    if edit is None:
        raise SiteError(f"cannot put attention {site}: {_why_not(trace, site)}")
    taken.add(edit.path)
    return edit


def is_occupied(trace: Trace, site: Site) -> bool:
    """Whether attention already makes or takes the feature map at `site`."""
    if any(trace.info(call).is_attention for call in trace.returning(site.value)):
        return True
    return any(
        trace.info(call).is_attention
        for call in trace.taking(site.value)
        if site.where == "after" or call.index in trace.calls[site.call].inside
    )


def _runs(trace: Trace, call: Call, times: int) -> bool:
    return trace.times_called[call.path] == times


def _free_name(model: nn.Module, parent: str, wanted: str, taken: set[str]) -> str:
    """`wanted`, or with a number, so that neither the parent nor another edit has it."""
    module, name, count = get_module(model, parent), wanted, 1
    while has_attribute(module, name) or join(parent, name) in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


# --- one maker a mechanism: an edit, or None where it does not apply -----------------------------


def _slot(
    trace: Trace, model: nn.Module, anchor: Anchor, taken: set[str], times: int
) -> Edit | None:
    block = trace.parent(anchor.call)
    if block is None or anchor.where != "after" or not _runs(trace, block, times):
        return None
    original = trace.info(block).qualname
    slot = SLOTS.get(original)
    free = slot is not None and join(block.path, slot.name) not in taken
    if slot is None or not free or anchor.call.path != join(block.path, slot.after):
        return None
    host = get_module(model, block.path)
    if slot.subclass:
        exact = not has_attribute(host, slot.name) and "forward" not in host.__dict__
        return Subclass(block.path, slot.name, original, slot.subclass) if exact else None
    return Slot(block.path, slot.name) if getattr(host, slot.name, 0) is None else None


def _insert(
    trace: Trace, model: nn.Module, anchor: Anchor, taken: set[str], times: int
) -> Edit | None:
    parent = trace.parent(anchor.call)
    if parent is None or trace.info(parent).kind != "sequential" or not _runs(trace, parent, times):
        return None
    calls = trace.children(parent)
    entries = list(get_module(model, parent.path)._modules)
    matter = parent.path in trace.positions_read or _positions_matter(
        model, trace.info(parent).paths
    )
    if len(entries) != len(calls) or matter:
        return None
    name = entries[calls.index(anchor.call)]
    prefix = "attn_pre" if anchor.where == "before" else "attn_post"
    new = _free_name(model, parent.path, f"{prefix}_{name}", taken)
    return Insert(parent.path, new, name, anchor.where)


def _positions_matter(model: nn.Module, paths: tuple[str, ...]) -> bool:
    """Whether a module that holds this one has code that reads the positions of its entries.

    That it did not do so in the forward pass that was followed is known; it may in another mode, or
    in another method (timm's `forward_intermediates`).
    """
    for path in paths:
        if path:
            parent, name = split(path)
            owner = type(get_module(model, parent))
            if reads_positions(owner, name):
                return True
    return False


def _hook(
    trace: Trace, model: nn.Module, anchor: Anchor, taken: set[str], times: int
) -> Edit | None:
    call = anchor.call
    if trace.info(call).kind != "composite" or not _runs(trace, call, times):
        return None
    host = get_module(model, call.path)
    edit = Hook(call.path, anchor.where)
    if edit.path in taken or has_attribute(host, edit.name) or call.path in trace.children_run:
        return None
    ours = isinstance(host, Attention | Attended | Replaced)
    owners = (type(get_module(model, outer)) for outer in prefixes(call.path))
    passed_by = any(run_otherwise(owner, type(host)) for owner in owners)
    return None if ours or passed_by or _copies_itself(type(host)) else edit


def _copies_itself(cls: type[nn.Module]) -> bool:
    """Whether a class says how it is copied or pickled: hooks may not come along.

    An `fx.GraphModule` makes its copies anew from its graph.
    """
    return any(
        getattr(cls, name, None) is not getattr(nn.Module, name, None)
        for name in ("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")
    )


def _wrap_stateless(
    trace: Trace, model: nn.Module, anchor: Anchor, taken: set[str], times: int
) -> Edit | None:
    stateless = not trace.info(anchor.call).has_state
    return _wrap(trace, model, anchor, taken, times) if stateless else None


def _wrap(
    trace: Trace, model: nn.Module, anchor: Anchor, taken: set[str], times: int
) -> Edit | None:
    call, paths = anchor.call, trace.info(anchor.call).paths
    if call.parent < 0 or not _runs(trace, call, times) or not call.takes_tensor:
        return None
    edit = Wrap(paths, anchor.where)
    return None if edit.path in taken else edit


def _replace(trace: Trace, site: Site) -> Edit | None:
    call = trace.calls[site.call]
    if call.parent < 0 or not _runs(trace, call, len(site.values)):
        return None
    return Replace(trace.info(call).paths)


def _why_not(trace: Trace, site: Site) -> str:
    call = trace.calls[site.call]
    often = called_often(trace, site, shared=bool(site.further))
    if often:
        return often + "."
    if call.parent < 0:
        return (
            "the model itself is the only module there, and it is changed in place, so nothing "
            "can stand around it. Put it into an nn.Sequential first."
        )
    rebuilt = rebuilt_around(trace, call.path)
    if rebuilt:
        return (
            f"attention there would be lost: {rebuilt[-1]!r} ({trace.modules[rebuilt[-1]].type}) "
            f"makes other layers of those it holds, when the network is reparameterised or an "
            f"adapter is merged. Name {rebuilt[-1]!r} itself, by policy 'match', or another place."
        )
    return (
        f"{call.path!r} ({call.type}) is held in a way that none of slot, insert, hook and wrap "
        f"allows. Name a module around it with policy 'match'."
    )
