"""`attnzoo blocks`: what there is to put in."""

from __future__ import annotations

import inspect
from textwrap import indent
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
from attnzoo.cli.citation import bibtex
from attnzoo.cli.console import WIDE, megas, result_console, show_json, show_table, working
from attnzoo.cli.contract import CHECK, Check, show_reports
from attnzoo.cli.options import Json, UsageError, parse_options
from attnzoo.errors import AttnzooError

if TYPE_CHECKING:
    from attnzoo.registry import BlockSpec
    from attnzoo.tracing import Count

__all__ = ["blocks"]

CHANNELS, SIDE = 256, 56
MAP = f"{CHANNELS}×{SIDE}×{SIDE}"


def blocks(
    pattern: Annotated[
        str,
        Parameter(metavar="NAME", help="A block, or a pattern in quotes: `'c*'`."),
    ] = "*",
    /,
    *,
    check: Check = False,
    option: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=VALUE",
            help="An option to check the block with. May be given several times.",
            group=CHECK,
            show_default=False,
        ),
    ] = (),
    json: Json = False,
) -> None:
    """List the attention blocks, or explain or check one."""
    if check:
        _check(pattern, option, json)
        return
    if option:
        raise UsageError("--option goes with --check.")
    with working("Counting"):
        import attnzoo.blocks  # registers them  # noqa: F401
        from attnzoo.registry import BLOCKS

        specs, is_name = find(BLOCKS, pattern)
        counted = [(spec, *_count(spec)) for spec in specs]
    if json:
        show_json([_as_dict(*row) for row in counted])
    elif is_name:
        _explain(*counted[0])
    else:
        _show(counted)


def _check(pattern: str, option: tuple[str, ...], json: bool) -> None:
    with working("Checking"):
        import attnzoo.blocks  # registers them  # noqa: F401
        from attnzoo.registry import BLOCKS
        from attnzoo.testing import check_block

        options = parse_options("--option", option)
        specs, _ = find(BLOCKS, pattern)
        reports = [check_block(spec.name, **options) for spec in specs]
    show_reports(reports, json=json)


def _count(spec: BlockSpec) -> tuple[int | None, Count | None]:
    """Parameters and costs with the default options; None where an option must be given."""
    import torch

    from attnzoo.surgery import build_block
    from attnzoo.tracing import count

    try:
        block = build_block(spec, CHANNELS, {}, "meta")
    except AttnzooError:
        return None, None
    x = torch.empty(1, CHANNELS, SIDE, SIDE, device="meta")
    return sum(p.numel() for p in block.parameters()), count(block, (x,), {})


def _as_dict(spec: BlockSpec, parameters: int | None, counted: Count | None) -> dict[str, Any]:
    required = [k for k, v in spec.options.items() if v is inspect.Parameter.empty]
    return {
        "name": spec.name,
        "kind": spec.kind,
        "title": spec.title,
        "summary": spec.summary,
        "year": spec.year,
        "paper": spec.paper,
        "arxiv": spec.arxiv,
        "bibtex": bibtex(spec),
        "options": option_defaults(spec.options),
        "required": required,
        "maps": dict(spec.maps),
        "identity_at_init": spec.identity_at_init,
        "neutral": spec.neutral,
        "limits": dict(spec.limits),
        "map": [CHANNELS, SIDE, SIDE],
        "parameters": parameters,
        "macs": counted and counted.macs,
    }


def _show(counted: list[tuple[BlockSpec, int | None, Count | None]]) -> None:
    columns = {
        "name": "left",
        "kind": "left",
        "year": "right",
        "parameters": "right",
        "MMACs": "right",
        "neutral": "left",
        "title": "fold",
    }
    wide = result_console().width >= WIDE
    if wide:
        columns["paper"] = "fold"
    rows = [
        [
            spec.name,
            spec.kind,
            str(spec.year or ""),
            "–" if parameters is None else f"{parameters:,}",
            "–" if costs is None else megas(costs.macs),
            "yes" if spec.neutral else "",
            spec.title,
            *[spec.paper][: int(wide)],
        ]
        for spec, parameters, costs in counted
    ]
    show_table(f"Blocks, counted on a map of {MAP}", columns, rows)
    print("\nattnzoo blocks NAME explains one: its formula, options and paper.")


def _explain(spec: BlockSpec, parameters: int | None, counted: Count | None) -> None:
    text, explained = describe(spec.factory)
    show_facts(
        {
            "block": spec.name,
            "title": spec.title,
            "kind": spec.kind,
            "paper": spec.paper,
            "arXiv": spec.arxiv or "",
            "starts": "identity, neutral, paper" if spec.neutral else "identity, paper",
            "maps": ", ".join(f"{path} ({kind})" for path, kind in spec.maps.items()),
            "limits": " ".join(f"{what}: {why}" for what, why in spec.limits.items()),
            "cost": ""
            if counted is None
            else f"{parameters:,} parameters, {megas(counted.macs)} MMACs on {MAP}",
        }
    )
    show_text(text)
    options = spec.options
    if options:
        show_options("Options", options, explained)
    entry = bibtex(spec)
    if entry:
        print(f"\nTo cite it:\n{indent(entry, '  ')}")
    given = "".join(f" --option {option_text(k, v)}" for k, v in list(options.items())[:1])
    print(f"\nTry:\n  attnzoo plan torchvision/resnet18 --block {spec.name}{given}")
