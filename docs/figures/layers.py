"""The layers of the package, drawn from the contract that `make lint` enforces."""

from __future__ import annotations

import tomllib
from pathlib import Path

from svg import Drawing

ROOT = Path(__file__).parents[2]

# What each module is for; a module without an entry here can't be drawn.
PURPOSE = {
    "__main__": "python -m attnzoo",
    "cli": "the command line; nothing imports it",
    "study": "many runs: grid, engine, statistics, report",
    "train": "one run: data, recipe, loop",
    "backbones": "networks by name",
    "checkpoint": "save, load",
    "cost": "parameters, MACs, bytes",
    "tuning": "parameter groups, freezing",
    "reference": "VGG16WithAttention",
    "surgery": "apply, unwrap",
    "plan": "Recipe and Plan",
    "policies": "Trace → sites",
    "structure": "residual blocks, pools, MBConv, resolution levels in a trace",
    "probe": "model → Trace, on meta tensors",
    "trace": "what one forward pass does, as data",
    "blocks": "the zoo, one family a file",
    "registry": "names → blocks, names → policies",
    "axes": "NCHW or NHWC",
    "checks": "argument checks",
    "example": "inputs",
    "meta_ops": "shapes",
    "sites": "a place",
    "tree": "modules by path",
    "errors": "exceptions, each also a builtin",
}


def contract() -> list[list[str]]:
    """The layers, highest first, each a list of modules that know nothing of each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip(" ()") for name in layer.split("|")] for layer in layers]


def layers() -> Drawing:
    """One row a layer, highest first."""
    rows = contract()
    d = Drawing(900, 34 * len(rows) + 24)
    for row, names in enumerate(rows):
        y = 6 + 34 * row
        alone = len(names) == 1
        width = 150 if alone else 850 / len(names) - 6
        for column, name in enumerate(names):
            x = 10 + (width + 6) * column
            core = name in ("blocks", "policies", "plan", "surgery")
            kind = "attention" if core else "map"
            d.box(x, y, width, 28, name, kind, style="mono")
            if alone:
                d.text(x + width + 16, y + 19, PURPOSE[name], "small soft", anchor="start")
    d.arrow((882, 40), (882, 34 * len(rows) - 60))
    d.text(872, 80, "imports", "small soft", anchor="end")
    return d
