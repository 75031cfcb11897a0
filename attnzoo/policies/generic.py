"""The escape hatch: any module, by path and class name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from attnzoo.checks import check_choice, did_you_mean
from attnzoo.errors import OptionError
from attnzoo.policies.filters import as_list, check_globs
from attnzoo.registry import register_policy
from attnzoo.tracing import Site, Trace, Where

__all__ = ["match"]


@register_policy("match", source="any module, by name", looks_for="modules of that name")
def match(
    trace: Trace,
    pattern: str | Sequence[str] = "*",
    type: str | Sequence[str] | None = None,
    where: Where = "after",
) -> list[Site]:
    """At every module whose path matches `pattern` and whose class is called `type`.

    At least one of `pattern` and `type` must be given.

    Args:
        trace: of the network.
        pattern: a glob on module paths, or several; `*` also matches dots.
        type: name of a class, without its module, or several; None for any.
        where: `"before"`, `"after"` or `"replace"`.
    """
    owner = "policy 'match'"
    check_choice(owner, "where", where, ("before", "after", "replace"))
    if pattern == "*" and type is None:
        raise OptionError(f"{owner} needs pattern= (a glob on module paths) or type=.")
    globs, types = as_list(pattern), None if type is None else as_list(type)
    for option, given in (("pattern", globs), ("type", types or [])):
        if not all(isinstance(name, str) for name in given):
            raise OptionError(f"{owner}: {option}={given!r} must be a text or several.")
    if len(globs) > 1:  # where one is all, that nothing is found says so
        check_globs(trace, owner, "pattern", globs)
    run = {call.type for call in trace.calls}
    if types is not None and len(types) > 1 and not run.issuperset(types):
        idle = [name for name in types if name not in run]
        near = did_you_mean(idle[0], run)
        raise OptionError(f"{owner}: type={types!r}: no module that runs is a {idle[0]}.{near}")
    place = {"before": trace.before, "after": trace.after, "replace": trace.replace}[where]
    return [
        place(call)
        for call in trace.calls
        if any(fnmatch.fnmatchcase(call.path, glob) for glob in globs)
        and (types is None or call.type in types)
    ]
