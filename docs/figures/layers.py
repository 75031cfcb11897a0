"""The rooms of the package, drawn from the contract that `make lint` enforces."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from attnzoo.surgery.svg import Drawing

ROOT = Path(__file__).parents[2]

# What each room or module that has a box of its own is for; one without an entry can't be drawn.
PURPOSE = {
    "__main__": "python -m attnzoo",
    "cli": "the command line",
    "sweep": "every policy, every network",
    "study": "many runs",
    "testing": "the contracts, as checks",
    "train": "one run: data, recipe, loop",
    "backbones": "networks by name, with trained weights",
    "weights": "plain weights in and out",
    "trained": "a trained network: tested, used, exported",
    "deploy": "a network as other programs' files, each run beside it",
    "sharing": "a folder for others, with a card",
    "merging": "attention folded into what stands beside it",
    "api": "the two verbs, plan and wrap",
    "surgery": "sites → the network with attention, and back; all or nothing",
    "policies": "trace → sites",
    "structure": "what a trace shows: residual blocks, pools, MBConv, the trunk",
    "tracing": "network → trace, one forward pass on meta tensors",
    "hosts": "what stands in a network and holds attention",
    "blocks": "the zoo, one family a file",
    "registry": "names → blocks, names → policies",
    "kernels": "one read, then one read and one write",
    "checks": "arguments that are looked at before anything is done",
    "files": "written whole or not at all",
    "errors": "exceptions, each also a builtin",
}
FLOW = ("surgery", "policies", "structure", "tracing")  # what a network goes through

LEFT, WIDTH, GAP = 10, 830, 6
LOW, HIGH = 32, 52
MANY = 4  # more modules than this in a layer have only their names in the drawing


def contracts() -> dict[str, list[list[str]]]:
    """Contract → its layers, highest first, each a list of modules that know nothing of another."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return {
        contract["id"]: [
            [name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]
        ]
        for contract in found
    }


def layers() -> Drawing:
    """One row a layer, highest first; rooms are filled, single modules are not."""
    rooms = contracts()
    within = {name: found for name, found in rooms.items() if name != "rooms"}
    heights = [HIGH if within.keys() & set(names) else LOW for names in rooms["rooms"]]
    d = Drawing(900, sum(heights) + GAP * len(heights) + 40)
    y = 30
    for names, height in zip(rooms["rooms"], heights, strict=True):
        shares = [1.5 if name in within else 1 for name in names]
        x = float(LEFT)
        for name, share in zip(names, shares, strict=True):
            width = (WIDTH + GAP) * share / sum(shares) - GAP
            is_room = (ROOT / "attnzoo" / name).is_dir()
            kind = "attention" if name in FLOW else "map" if is_room else "plain"
            d.box(x, y, width, height, name if len(names) > MANY else "", kind, style="mono")
            if len(names) <= MANY:
                inside = " ← ".join(part for (part,) in reversed(within.get(name, [])))
                d.text(x + 12, y + 21, name, "mono", anchor="start")
                if inside:
                    d.text(x + 12, y + 41, inside, "small", anchor="start")
                beside = (x + 12, y + 41) if height > LOW and not inside else (x + 96, y + 21)
                d.text(*beside, PURPOSE[name], "small soft", anchor="start")
            x += width + GAP
        y += height + GAP
    d.text(872, 20, "imports", "small soft")
    d.arrow((872, 30), (872, y - GAP))
    for x, kind, text in (
        (LEFT, "attention", "rooms that a network goes through"),
        (280, "map", "other rooms"),
        (410, "plain", "single modules"),
    ):
        d.box(x, 6, 14, 14, "", kind)
        d.text(x + 22, 18, text, "small soft", anchor="start")
    return d
