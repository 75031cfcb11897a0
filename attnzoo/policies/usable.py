"""Whether attention at a place that a policy found could act once, and learn anything."""

from __future__ import annotations

from attnzoo.structure import called_often, is_read
from attnzoo.tracing import Site, Skipped, Trace

__all__ = ["unless_dead", "usable"]


def usable(trace: Trace, found: Site | Skipped) -> Site | Skipped:
    """The site, unless attention there would never learn, or act several times."""
    found = unless_dead(trace, found)
    if isinstance(found, Skipped):
        return found
    if found.channels == 1:
        return Skipped(found.path, "its map has one channel: scores or a mask, and no features")
    often = called_often(trace, found)
    return Skipped(found.path, often) if often else found


def unless_dead(trace: Trace, found: Site | Skipped) -> Site | Skipped:
    """The site, unless nothing depends on the map there: some networks pool what nobody reads."""
    if isinstance(found, Skipped) or is_read(trace, found):
        return found
    return Skipped(found.path, "nothing that the model returns depends on what it computes")
