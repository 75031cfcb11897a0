"""The layers of the package, drawn from the contract that `make lint` enforces."""

from __future__ import annotations

import tomllib
from pathlib import Path

from attnzoo.surgery.svg import Drawing

ROOT = Path(__file__).parents[2]

# What each module is for; a module without an entry here can't be drawn.
PURPOSE = {
    "__main__": "python -m attnzoo",
    "cli": "the command line; nothing imports it",
    "sweep": "every policy on every network of torchvision and timm",
    "study": "many runs: grid, engine, statistics, report",
    "train": "one run: data, recipe, loop",
    "backbones": "networks by name",
    "api": "the two verbs, plan and wrap",
    "planning": "a recipe resolved on one model",
    "surgery": "put blocks in and take them out, all or none",
    "recipe": "what was asked for, as JSON",
    "structure": "residual blocks, pools, MBConv, trunk: what a trace shows",
    "probe": "model → Trace, one forward pass on meta tensors",
    "recorder": "writes down what runs",
    "on_meta": "a forward pass on meta tensors, the model as it was after it",
    "trace": "what that pass does, as plain data",
    "blocks": "the zoo, one family a file",
    "kernels": "attention on a GPU: one read, then one read and one write",
    "registry": "names → blocks, names → policies",
    "errors": "exceptions, each also a builtin",
}

WIDE = 6  # modules in one row


def contract() -> list[list[str]]:
    """The layers, highest first, each a list of modules that know nothing of each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip(" ()") for name in layer.split("|")] for layer in layers]


def layers() -> Drawing:
    """One row a layer, highest first; a layer of many modules takes more rows."""
    rows = [
        (names[start : start + WIDE], len(names) == 1)
        for names in contract()
        for start in range(0, len(names), WIDE)
    ]
    d = Drawing(900, 34 * len(rows) + 6)
    for row, (names, alone) in enumerate(rows):
        y = 6 + 34 * row
        width = 150 if alone else 850 / max(len(names), 3) - 6
        for column, name in enumerate(names):
            x = 10 + (width + 6) * column
            core = name in ("blocks", "policies", "planning", "surgery")
            d.box(x, y, width, 28, name, "attention" if core else "map", style="mono")
        if alone:
            d.text(x + width + 16, y + 19, PURPOSE[names[0]], "small soft", anchor="start")
    d.arrow((882, 40), (882, d.height - 34))
    d.text(872, 80, "imports", "small soft", anchor="end")
    return d
