"""The filters that all policies share: which of the sites found are kept."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from attnzoo.checks import check_choice, check_int, did_you_mean
from attnzoo.errors import OptionError
from attnzoo.tracing import Site, Trace

__all__ = ["FILTERS", "as_list", "check_filters", "check_filters_on", "check_globs", "filtered"]

#: The options every policy has, and what each keeps.
FILTERS: dict[str, str] = {
    "stages": "sites of these resolution levels (an integer or several, 1 is the finest)",
    "include": "sites whose path matches one of these globs",
    "exclude": "sites whose path matches none of these globs",
    "min_channels": "sites of at least so many channels",
    "max_resolution": "sites at most so high and so wide",
    "every": "every n-th site, of those the other filters keep",
    "occupied": "what to do where attention is already: 'refuse' (default), 'skip' or 'stack'",
    "shared": "whether one block may act at all calls of a module that runs several times",
}


def check_filters(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse filters that no network could take.

    Raises:
        OptionError: naming the filter, and the policy that it belongs to.
    """
    for name in ("min_channels", "max_resolution", "every"):
        if name in options:
            check_int(owner, name, options[name], minimum=1)
    for stage in as_list(options.get("stages", [])):
        check_int(owner, "stages", stage, minimum=1)
    for name in ("include", "exclude"):
        for pattern in as_list(options.get(name, [])):
            if not isinstance(pattern, str):
                raise OptionError(f"{owner}: {name}={options[name]!r} must be a glob or several.")
    check_choice(owner, "shared", options.get("shared", False), (False, True))
    check_choice(owner, "occupied", options.get("occupied", "refuse"), ("refuse", "skip", "stack"))


def check_filters_on(trace: Trace, owner: str, options: Mapping[str, Any]) -> None:
    """Refuse globs that no module's path matches, and stages that a network has not.

    Raises:
        OptionError: naming them, with what there is.
    """
    for name in ("include", "exclude"):
        check_globs(trace, owner, name, options.get(name, []))
    beyond = [stage for stage in as_list(options.get("stages", [])) if stage > trace.stages]
    if beyond:
        raise OptionError(
            f"{owner}: stages={options['stages']!r}: {trace.model} has no stage "
            f"{', '.join(map(str, beyond))}. It has stages 1 (the finest) to {trace.stages}."
        )


def check_globs(trace: Trace, owner: str, option: str, globs: Any) -> None:
    """Refuse globs that no module's path matches.

    Raises:
        OptionError: naming them, with the closest paths.
    """
    paths = [path for info in trace.modules.values() for path in info.paths]
    idle = [glob for glob in as_list(globs) if not fnmatch.filter(paths, glob)]
    if idle:
        near = did_you_mean(idle[0].strip("*"), [path for path in paths if path])
        raise OptionError(
            f"{owner}: {option}={globs!r}: no module of {trace.model} matches "
            f"{', '.join(map(repr, idle))}.{near}"
        )


def as_list(value: Any) -> list[Any]:
    """The items of a list, tuple, set or range; anything else is one item."""
    return list(value) if isinstance(value, list | tuple | set | range) else [value]


def filtered(
    sites: list[Site], options: Mapping[str, Any]
) -> tuple[list[Site], list[tuple[str, int]]]:
    """The sites that pass every filter, and how many each filter dropped."""

    def matches(site: Site, patterns: Any) -> bool:
        return any(fnmatch.fnmatchcase(site.path, pattern) for pattern in as_list(patterns))

    tests = {
        "stages": lambda site, stages: site.stage in as_list(stages),
        "include": matches,
        "exclude": lambda site, patterns: not matches(site, patterns),
        "min_channels": lambda site, least: site.channels >= least,
        "max_resolution": lambda site, most: max(site.height, site.width) <= most,
    }
    dropped = []
    for name, keeps in tests.items():
        if name in options:
            kept = [site for site in sites if keeps(site, options[name])]
            if len(kept) < len(sites):
                dropped.append((f"{name}={options[name]!r}", len(sites) - len(kept)))
            sites = kept
    return sites[:: options.get("every", 1)], dropped
