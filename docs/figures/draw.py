"""Make every drawing of the README and the site: `python docs/figures/draw.py [FOLDER]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from concepts import flow, local_attention, mechanisms, policies, start
from layers import layers
from network import vgg16_plan

from attnzoo.surgery.svg import Drawing

ASSETS = Path(__file__).parents[1] / "assets"

DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "flow": flow,
    "layers": layers,
    "local-attention": local_attention,
    "mechanisms": mechanisms,
    "policies": policies,
    "start": start,
    "vgg16-plan": vgg16_plan,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(str(draw()), encoding="utf-8")
        print(folder / f"{name}.svg")
