"""`attnzoo plan`: where attention goes in a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attnzoo.cli.console import megas, result_console, show_json, show_table
from attnzoo.cli.network import make_plan
from attnzoo.cli.options import (
    AS_IT_IS,
    BY_DEFAULT,
    OUTPUT,
    Attention,
    Backbone,
    Json,
    Network,
    UsageError,
)
from attnzoo.files import check_kind, written_whole

__all__ = ["plan"]

COLUMNS = {
    "site": "left",
    "": "fold",
    "C": "right",
    "H×W": "right",
    "stage": "right",
    "mechanism": "left",
    "parameters": "right",
    "MMACs": "right",
    "MB": "right",
}


def plan(
    backbone: Backbone,
    /,
    *,
    network: Network = AS_IT_IS,
    attention: Attention = BY_DEFAULT,
    svg: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="Also draw the network with its places, as an SVG.",
            group=OUTPUT,
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show where a policy puts attention into a network, and why there."""
    if svg is not None and not svg.absolute().parent.is_dir():
        raise UsageError(f"--svg {svg}: there is no folder {svg.parent}.")
    if svg is not None:
        check_kind(svg, ".svg")
    made = make_plan(backbone, attention, network)
    if svg is not None:
        drawn = made.draw()
        with written_whole(svg) as partial:
            partial.write_text(drawn, encoding="utf-8")
    if json:
        show_json({"backbone": backbone, **made.to_dict()})
        return
    several = int(set(made.parts) != {"trunk"})
    rows = [
        [
            *[part][:several],
            row.site.where,
            (row.site.path or "(root)")
            + f", {len(row.site.values)} calls" * bool(row.site.further),
            str(row.site.channels),
            f"{row.site.height}×{row.site.width}",
            str(row.site.stage),
            row.mechanism,
            f"{row.parameters:,}",
            megas(row.macs),
            megas(row.activation_bytes),
        ]
        for part, row in made.by_part
    ]
    sites = f"{len(rows)} site" + "s" * (len(rows) > 1)
    added = (f"{made.parameters:,}", megas(made.macs), megas(made.activation_bytes))
    columns = {"part": "left", **COLUMNS} if several else COLUMNS
    total = (*[""][:several], "", sites, "", "", "", "", *added)
    show_table(f"{backbone}: {made.recipe}", columns, rows, total)
    for policy, reason in made.why.items():
        result_console().print(f"{policy}: {reason}")
    for place in made.skipped:
        result_console().print(f"left out: {place}")
    for place in made.half_blind:
        result_console().print(f"half blind: {place}")
    for what in made.unseen:
        result_console().print(f"not seen: {what}")
    for what in made.assumed:
        result_console().print(f"assumed: {what}")
