"""The places that a policy names: real ones, always the same, and filtered as asked."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import docstring_parser

from attnzoo.errors import NoSitesError, OptionError
from attnzoo.policies import PolicyCall, Selection, parse_policies, select
from attnzoo.registry import PolicySpec
from attnzoo.testing.contract import BreachError
from attnzoo.testing.policy.networks import SIZE, without_places
from attnzoo.testing.policy.subject import Network, PolicySubject
from attnzoo.tracing import Site, Skipped, Trace, probe

__all__ = [
    "documented",
    "filters",
    "find_twice",
    "is_place",
    "no_places",
    "options",
    "places",
    "pure",
]


def documented(subject: PolicySubject) -> None:
    """The docstring says in a sentence where attention goes, and explains every option."""
    spec = subject.spec
    if not spec.summary.endswith("."):
        raise BreachError(f"its docstring begins with {spec.summary!r}, which is no sentence")
    style = docstring_parser.DocstringStyle.GOOGLE
    parsed = docstring_parser.parse(inspect.getdoc(spec.find) or "", style)
    described = {parameter.arg_name for parameter in parsed.params if parameter.description}
    absent = [option for option in spec.options if option not in described]
    if absent:
        raise BreachError(f"its docstring has no word on {', '.join(absent)} under Args:")


def options(subject: PolicySubject) -> None:
    """Unknown options raise `OptionError`, which names them."""
    try:
        parse_policies((subject.spec.name, {**subject.options, "no_such_option": 4}))
    except OptionError as error:
        if "no_such_option" not in str(error):
            raise BreachError(f"the error does not name the option: {error}") from error
        return
    raise BreachError("takes an option that it does not have")


def places(subject: PolicySubject) -> str:
    """It returns places of the trace that it was given, and others left out with a reason."""
    counts = {}
    for network in subject.networks:
        with network.named():
            trace = network.trace
            found = _find(subject.spec, subject.own, trace)
            for item in found:
                is_place(trace, item)
            counts[network.name] = sum(isinstance(item, Site) for item in found)
    if not any(counts.values()):
        raise BreachError(
            f"finds no place in {', '.join(counts)}; give networks that have some by models="
        )
    return ", ".join(f"{count} in {name}" for name, count in counts.items())


def is_place(trace: Trace, item: Any) -> None:
    """Raise unless it is a place of the trace, or one left out with a reason."""
    if isinstance(item, Skipped):
        if not item.reason:
            raise BreachError(f"leaves out {item.path} without a reason")
        return
    if not isinstance(item, Site) or not 0 <= item.call < len(trace.calls):
        raise BreachError(
            f"returns {item!r}; a policy returns sites made by trace.before(call), "
            f"trace.after(call) or trace.replace(call)"
        )
    call, value = trace.calls[item.call], trace.values[item.value]
    if call.path != item.path or not value.is_map:
        raise BreachError(f"{item} is not on a feature map of {call.path}")
    on = (call.inputs if item.where == "before" else call.outputs)[:1]
    if on != (item.value,):
        raise BreachError(f"{item} is not on what {call.path} {_handles(item)}")
    told = (item.channels, item.height, item.width, item.stage)
    found = (value.channels, value.height, value.width, trace.stage(value))
    if told != found or min(found) < 1:
        raise BreachError(f"{item} says C, H, W, stage = {told}, and the trace {found}")


def _handles(site: Site) -> str:
    return "is given" if site.where == "before" else "returns"


def pure(subject: PolicySubject) -> None:
    """The same trace, and another trace of the same network, give the same places."""
    for network in subject.networks:
        with network.named() as model:
            first = find_twice(subject.spec, subject.own, network.trace)
            if _find(subject.spec, subject.own, probe(model, network.example)) != first:
                raise BreachError("it finds other places in another trace of the same network")


def filters(subject: PolicySubject) -> None:
    """Every common filter keeps exactly the places that it should."""
    bare = PolicySubject(subject.spec, subject.own, subject.networks)
    for network in bare.fitting:
        with network.named():
            selection = bare.selected(network)
            if isinstance(selection, Selection):
                _filters_keep(bare, network, selection.sites)


def _filters_keep(subject: PolicySubject, network: Network, sites: tuple[Site, ...]) -> None:
    last = sites[-1]
    side = max(last.height, last.width)
    cases: list[tuple[str, Any, Callable[[Site], bool]]] = [
        ("stages", last.stage, lambda site: site.stage == last.stage),
        ("include", glob.escape(last.path), lambda site: site.path == last.path),
        ("exclude", glob.escape(last.path), lambda site: site.path != last.path),
        ("min_channels", last.channels, lambda site: site.channels >= last.channels),
        ("max_resolution", side, lambda site: max(site.height, site.width) <= side),
    ]
    expected = {(name, value): [s for s in sites if keeps(s)] for name, value, keeps in cases}
    expected["every", 2] = list(sites[::2])
    for (name, value), kept in expected.items():
        call = PolicyCall(subject.spec.name, {**subject.options, name: value})
        try:
            found = list(select(network.trace, call).sites)
        except NoSitesError:
            found = []
        if found != kept:
            raise BreachError(
                f"{name}={value!r} keeps {_listed(found)}, and should keep {_listed(kept)}"
            )


def _listed(sites: list[Site]) -> str:
    return ", ".join(map(str, sites)) or "nothing"


def no_places(subject: PolicySubject) -> str | None:
    """Where a network has no place, `NoSitesError` says what was looked for."""
    without = Network("a network without a feature map", without_places(SIZE), SIZE)
    subject = PolicySubject(subject.spec, subject.options, (*subject.networks, without))
    refused = []
    for network in subject.networks:
        with network.named():
            selection = subject.selected(network)
            if isinstance(selection, Selection):
                continue
            text = str(selection)
            if f"found no site in {network.trace.model}" not in text or len(text.split()) < 12:
                raise BreachError(f"the error gives no reason: {text}")
            refused.append(network.name)
    return f"none in {', '.join(refused)}"


def find_twice(spec: PolicySpec, own: Mapping[str, Any], trace: Trace) -> list[Any]:
    """What a policy finds, once it is sure to find the same again."""
    first, second = (_find(spec, own, trace) for _ in range(2))
    if first != second:
        raise BreachError("it finds other places the second time")
    return first


def _find(spec: PolicySpec, own: Mapping[str, Any], trace: Trace) -> list[Any]:
    found = spec.find(trace, **own)
    return [found] if isinstance(found, Site) else list(found)
