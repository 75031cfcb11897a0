"""`attnzoo cost`: what a network costs before and after."""

from __future__ import annotations

from typing import Any

from attnzoo.cli.console import megas, percent, show_json, show_table, working
from attnzoo.cli.network import make_plan
from attnzoo.cli.options import AS_IT_IS, BY_DEFAULT, Attention, Backbone, Json, Network

__all__ = ["cost"]

QUANTITIES = {
    "parameters": "parameters",
    "macs": "MACs",
    "activation_bytes": "activation bytes",
}


def cost(
    backbone: Backbone,
    /,
    *,
    network: Network = AS_IT_IS,
    attention: Attention = BY_DEFAULT,
    json: Json = False,
) -> None:
    """Show what a network costs before and after attention is put in."""
    made = make_plan(backbone, attention, network)
    size = made.recipe.input_size
    with working(f"Counting {backbone}"):
        from attnzoo.costs import cost as count

        before = count(made.model, size).to_dict()
        after = count(made.apply(), size).to_dict()
    added = {name: after[name] - before[name] for name in QUANTITIES}
    if json:
        show_json(
            {
                "backbone": backbone,
                "recipe": made.recipe.to_dict(),
                "before": {name: before[name] for name in QUANTITIES},
                "after": {name: after[name] for name in QUANTITIES},
                "added": added,
                "sites": after["sites"],
                "stopped": after["stopped"],
            }
        )
        return
    shape = "×".join(map(str, size or ()))
    show_table(
        f"{backbone}: {made.recipe}",
        {
            f"one image, {shape}": "left",
            "before": "right",
            "after": "right",
            "added": "right",
            "": "right",
        },
        [
            [
                heading,
                f"{before[name]:,}",
                f"{after[name]:,}",
                f"{added[name]:+,}",
                percent(added[name], before[name]),
            ]
            for name, heading in QUANTITIES.items()
        ],
    )
    if after["stopped"]:
        print(f"\nThe forward pass depends on values and was counted up to: {after['stopped']}")
    print()
    _show_sites(after["sites"])


def _show_sites(sites: list[dict[str, Any]]) -> None:
    columns = {
        "attention": "fold",
        "block": "left",
        "C": "right",
        "H×W": "right",
        "parameters": "right",
        "MMACs": "right",
        "MB": "right",
    }
    rows = [
        [
            site["path"],
            site["block"],
            str(site["channels"]),
            f"{site['height']}×{site['width']}",
            f"{site['parameters']:,}",
            megas(site["macs"]),
            megas(site["activation_bytes"]),
        ]
        for site in sites
    ]
    show_table("Of that, at each site", columns, rows)
