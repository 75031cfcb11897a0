"""Whether attention at a place that a policy found could act once, and learn anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attnzoo.structure import at_all_calls, called_often, computed_once, is_read, mixed_values
from attnzoo.tracing import Site, Skipped, Trace, first_round

__all__ = ["at_each_call", "in_any_round", "unless_dead", "usable"]


def in_any_round(trace: Trace, find: Callable[..., Any], options: Mapping[str, Any]) -> list[Any]:
    """What a policy finds; if nothing that runs several times, in the first round, too."""
    found = _listed(find(trace, **options))
    shared = (isinstance(item, Site) and called_often(trace, item) for item in found)
    part = None if any(shared) else _first_round(trace)
    if part is None:
        return found
    return found + [item for item in _listed(find(part, **options)) if isinstance(item, Site)]


@computed_once
def _first_round(trace: Trace) -> Trace | None:
    return first_round(trace)


def _listed(returned: Any) -> list[Any]:
    return list(returned) if isinstance(returned, Iterable) else [returned]


def usable(trace: Trace, found: Site | Skipped, *, shared: bool = False) -> Site | Skipped:
    """The site, unless attention there would never learn, or act several times and may not."""
    found = unless_dead(trace, found)
    if isinstance(found, Skipped):
        return found
    if found.channels == 1:
        return Skipped(found.path, "its map has one channel: scores or a mask, and no features")
    if not mixed_values(trace) >> found.value & 1:
        return Skipped(found.path, "its map is the image, of which no layer has made features yet")
    often = called_often(trace, found)
    if not often:
        return found
    return at_each_call(trace, found) if shared else Skipped(found.path, often)


def at_each_call(trace: Trace, found: Site | Skipped) -> Site | Skipped:
    """The site, for one block that acts at all calls of a module that runs several times."""
    if isinstance(found, Skipped) or not called_often(trace, found):
        return found
    site = at_all_calls(trace, found)
    return Skipped(found.path, site) if isinstance(site, str) else site


def unless_dead(trace: Trace, found: Site | Skipped) -> Site | Skipped:
    """The site, unless attention there would never learn.

    That is, unless nothing depends on the map there, as some networks pool what nobody reads, or
    the module runs in inference mode.
    """
    if isinstance(found, Skipped):
        return found
    if found.call in trace.unlearning:
        why = "it runs under torch.inference_mode(), through which no gradient flows"
        return Skipped(found.path, f"{why}: take that off the forward pass, and put it around")
    if is_read(trace, found):
        return found
    return Skipped(found.path, "nothing that the model returns depends on what it computes")
