"""`attnzoo policies`: where attention can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from attnzoo.cli.catalogue import (
    describe,
    find,
    option_defaults,
    option_text,
    show_facts,
    show_options,
    show_text,
)
from attnzoo.cli.console import WIDE, result_console, show_json, show_table, working
from attnzoo.cli.contract import CHECK, Check, show_reports
from attnzoo.cli.options import Json, UsageError, parse_options

if TYPE_CHECKING:
    from attnzoo.registry import PolicySpec

__all__ = ["policies"]


def policies(
    pattern: Annotated[
        str,
        Parameter(metavar="NAME", help="A policy, or a pattern in quotes: `'*residual'`."),
    ] = "*",
    /,
    *,
    check: Check = False,
    policy_option: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=VALUE",
            help="An option or filter to check the policy with. May be given several times.",
            group=CHECK,
            show_default=False,
        ),
    ] = (),
    backbone: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="BACKBONE",
            help="A network to check the policy on, instead of small ones of several kinds. May be "
            "given several times.",
            group=CHECK,
            show_default=False,
        ),
    ] = (),
    json: Json = False,
) -> None:
    """List the policies, which say where attention goes, or explain or check one."""
    if check:
        _check(pattern, policy_option, backbone, json)
        return
    if policy_option or backbone:
        raise UsageError("--policy-option and --backbone go with --check.")
    with working("Reading the registry"):
        from attnzoo.policies import FILTERS
        from attnzoo.registry import POLICIES

        specs, is_name = find(POLICIES, pattern)
    if json:
        show_json({"policies": [_as_dict(spec) for spec in specs], "filters": FILTERS})
    elif is_name:
        _explain(specs[0], FILTERS)
    else:
        _show(specs, FILTERS)


def _check(
    pattern: str, policy_option: tuple[str, ...], backbones: tuple[str, ...], json: bool
) -> None:
    with working("Checking"):
        from attnzoo.backbones import create_backbone
        from attnzoo.registry import POLICIES
        from attnzoo.testing import check_policy

        options = parse_options("--policy-option", policy_option)
        specs, _ = find(POLICIES, pattern)
        models = {name: create_backbone(name) for name in backbones} or None
        reports = [check_policy(spec.name, models, **options) for spec in specs]
    show_reports(reports, json=json)


def _as_dict(spec: PolicySpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "summary": spec.summary,
        "source": spec.source,
        "looks_for": spec.looks_for,
        "options": option_defaults(spec.options),
    }


def _show(specs: list[PolicySpec], filters: dict[str, str]) -> None:
    columns = {"name": "left", "where": "fold", "from": "fold"}
    wide = result_console().width >= WIDE
    if wide:
        columns["options"] = "fold"
    rows = [
        [spec.name, spec.summary, spec.source, *[_options_text(spec)][: int(wide)]]
        for spec in specs
    ]
    show_table("Policies", columns, rows)
    _show_filters(filters)
    print("\nattnzoo policies NAME explains one, with its options.")


def _options_text(spec: PolicySpec) -> str:
    return ", ".join(option_text(name, default) for name, default in spec.options.items())


def _explain(spec: PolicySpec, filters: dict[str, str]) -> None:
    text, explained = describe(spec.find)
    show_facts({"policy": spec.name, "from": spec.source, "looks for": spec.looks_for})
    show_text(text)
    if spec.options:
        show_options("Options", spec.options, explained)
    _show_filters(filters)
    print(f"\nUse:\n  attnzoo plan BACKBONE --policy {spec.name} --policy-option stages=3,4")


def _show_filters(filters: dict[str, str]) -> None:
    print()
    rows = [[name, keeps] for name, keeps in filters.items()]
    show_table("Filters that every policy takes", {"filter": "left", "keeps": "fold"}, rows)
