"""Make every drawing of the README and the site: `python docs/figures/draw.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from concepts import flow, local_attention, mechanisms, policies, start
from layers import layers
from network import vgg16_plan
from svg import Drawing

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
    for name, draw in DRAWINGS.items():
        (ASSETS / f"{name}.svg").write_text(str(draw()), encoding="utf-8")
        print(f"docs/assets/{name}.svg")
