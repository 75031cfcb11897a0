"""The escape hatch: any module, by path and class name."""

from __future__ import annotations

import fnmatch

from attnzoo.checks import check_choice
from attnzoo.errors import OptionError
from attnzoo.registry import register_policy
from attnzoo.tracing import Site, Trace, Where

__all__ = ["match"]


@register_policy("match", source="any module, by name", looks_for="modules of that name")
def match(
    trace: Trace, pattern: str = "*", type: str | None = None, where: Where = "after"
) -> list[Site]:
    """At every module whose path matches `pattern` and whose class is called `type`.

    At least one of `pattern` and `type` must be given.

    Args:
        trace: of the network.
        pattern: a glob on module paths; `*` also matches dots.
        type: name of a class, without its module; None for any.
        where: `"before"`, `"after"` or `"replace"`.
    """
    check_choice("policy 'match'", "where", where, ("before", "after", "replace"))
    if pattern == "*" and type is None:
        raise OptionError("policy 'match' needs pattern= (a glob on module paths) or type=.")
    place = {"before": trace.before, "after": trace.after, "replace": trace.replace}[where]
    return [
        place(call)
        for call in trace.calls
        if fnmatch.fnmatchcase(call.path, pattern) and type in (None, call.type)
    ]
