"""The picture of attention maps on the README and the home page, from a published study.

python docs/figures/maps.py     # docs/assets/maps.png, from docs/data/studies/looking

Four test pictures with the box of their digit, and what the spatial attention of trained networks,
one of each of some blocks, did on them. Colours go from a map's lowest value to its highest.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from attnzoo.study.report.overlays import overlay
from attnzoo.train import read_maps

DOCS = Path(__file__).parents[1]
STUDY = DOCS / "data" / "studies" / "looking"
OUT = DOCS / "assets" / "maps.png"
BLOCKS = ("local", "cbam", "spatial")
SIDE, GAP, LABEL = 168, 8, 78


def main() -> None:
    pictures = json.loads((STUDY / "data.json").read_text("utf-8"))["pictures"]
    rows = {"picture": [framed(picture) for picture in pictures]}
    for block in BLOCKS:
        (folder,) = STUDY.glob(f"runs/*+{block}.seed0.*")
        maps = [one for one in read_maps(folder / "maps.npz") if one.kind == "spatial"]
        finest = max(maps, key=lambda one: (one.path.startswith("layer"), one.height))
        rows[block] = [
            square(base64.b64decode(picture["png"]), values)
            for picture, values in zip(pictures, finest.values, strict=False)
        ]
        print(f"{block}: {finest.path}, {finest.height}×{finest.width}")
    columns = min(map(len, rows.values()))
    sheet(rows, columns).save(OUT, optimize=True)


def square(picture: bytes, values: object) -> Image.Image:
    return Image.open(io.BytesIO(overlay(picture, values))).resize((SIDE, SIDE))  # ty: ignore


def framed(picture: dict) -> Image.Image:
    """The picture, enlarged, with the box of its digit."""
    image = Image.open(io.BytesIO(base64.b64decode(picture["png"]))).convert("RGB")
    scale = SIDE / image.width
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    box = [round(scale * edge) for edge in picture["box"]]
    ImageDraw.Draw(image).rectangle(box, outline=(255, 160, 40), width=2)
    return image


def sheet(rows: dict[str, Sequence[Image.Image]], columns: int) -> Image.Image:
    step = SIDE + GAP
    page = Image.new("RGB", (LABEL + columns * step - GAP, len(rows) * step - GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for top, (name, images) in enumerate(rows.items()):
        draw.text((0, top * step + SIDE // 2), name, (60, 60, 60), font, anchor="lm")
        for left, image in enumerate(images[:columns]):
            page.paste(image, (LABEL + left * step, top * step))
    return page


if __name__ == "__main__":
    main()
