"""`attnzoo plan`: where attention goes in a network."""

from __future__ import annotations

from attnzoo.cli.console import megas, result_console, show_json, show_table
from attnzoo.cli.network import make_plan
from attnzoo.cli.options import AS_IT_IS, BY_DEFAULT, Attention, Backbone, Json, Network

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
    json: Json = False,
) -> None:
    """Show where a policy puts attention into a network."""
    made = make_plan(backbone, attention, network)
    if json:
        show_json({"backbone": backbone, **made.to_dict()})
        return
    rows = [
        [
            row.site.where,
            row.site.path or "(root)",
            str(row.site.channels),
            f"{row.site.height}×{row.site.width}",
            str(row.site.stage),
            row.mechanism,
            f"{row.parameters:,}",
            megas(row.macs),
            megas(row.activation_bytes),
        ]
        for row in made.rows
    ]
    sites = f"{len(rows)} site" + "s" * (len(rows) > 1)
    added = (f"{made.parameters:,}", megas(made.macs), megas(made.activation_bytes))
    show_table(f"{backbone}: {made.recipe}", COLUMNS, rows, ("", sites, "", "", "", "", *added))
    for place in made.skipped:
        result_console().print(f"left out: {place}")
