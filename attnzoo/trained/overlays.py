"""What a network's attention looks at, laid over pictures at their own size."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from attnzoo.checks import counted
from attnzoo.errors import DataError, NoMapsError, NotWrappedError
from attnzoo.maps import AttentionMap, attention_maps
from attnzoo.surgery import attention_modules
from attnzoo.train import open_picture, require
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["write_maps"]

OPACITY = 0.5
CELL, GAP, LABEL = 160, 6, 14  # pixels, on the contact sheet
LETTERS = 26  # of a label
ROWS, COLUMNS = 40, 12  # at most, on the contact sheet


@dataclass(frozen=True)
class _Heat:
    """One map that can be laid over a picture: values from 0 to 1 on the crop the network saw."""

    path: str
    values: np.ndarray


def write_maps(
    network: TrainedNetwork,
    pictures: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
) -> list[Path]:
    """Write an overlay a picture and place of attention, and `contact_sheet.png`.

    A picture's overlays are of its own size. What the network does not see, for it is given the
    middle of the picture, is dimmed. Each map goes from its lowest to its highest value.

    Args:
        network: from `open_network`.
        pictures: paths of files.
        out: a folder, made where it is not there.

    Returns:
        What was written, the contact sheet first.

    Raises:
        NotWrappedError, NoMapsError: it has no attention, or none with maps over positions.
        DataError: a picture cannot be read, or `out` is no folder.
        MissingExtraError: matplotlib is not installed.
    """
    if not attention_modules(network.model):
        raise NotWrappedError(
            f"the network is a plain {network.recipe.backbone}: there is no attention to look at. "
            f"Give the run of a variant with attention."
        )
    colours = require("matplotlib", "matplotlib").colormaps["inferno"]
    options = network.pictures
    transform = network.transform
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder for the overlays.")
    written: list[Path] = []
    rows: list[list[tuple[str, Image.Image]]] = []
    width = len(str(len(pictures)))
    for number, path in enumerate(pictures):
        picture = open_picture(path, options.channels)
        heats = _heats(network, transform(picture))
        shown = picture.convert("RGB")
        row = [(f"{Path(path).parent.name}/{Path(path).name}".lstrip("/"), _small(shown))]
        out.mkdir(parents=True, exist_ok=True)
        for heat in heats:
            over = _overlay(shown, heat.values, options.test_crop or 1.0, colours)
            name = f"{number:0{width}d}-{Path(path).stem}-{_safe(heat.path)}.png"
            over.save(out / name)
            written.append(out / name)
            row.append((heat.path, _small(over)))
        if number < ROWS:
            rows.append([row[0], *_some(row[1:])])
    sheet = out / "contact_sheet.png"
    places = len(written) // len(pictures)
    _contact_sheet(_heading(len(rows), len(pictures), places), rows).save(sheet)
    return [sheet, *written]


def _small(image: Image.Image) -> Image.Image:
    """As large as a cell takes."""
    return ImageOps.contain(image, (CELL, CELL))


def _some(cells: Sequence[Any]) -> list[Any]:
    """At most as many as there are columns, spread evenly from the first to the last."""
    if len(cells) <= COLUMNS:
        return list(cells)
    return [cells[i] for i in np.linspace(0, len(cells) - 1, COLUMNS).round().astype(int)]


def _heading(shown: int, pictures: int, places: int) -> str:
    of_pictures = f"{shown} of " * (shown < pictures) + counted(pictures, "picture")
    of_places = f"{COLUMNS} of " * (places > COLUMNS) + counted(places, "map")
    return f"{of_pictures}, {of_places} each, from its lowest value (dark) to its highest (yellow)"


def _heats(network: TrainedNetwork, image: torch.Tensor) -> list[_Heat]:
    found = attention_maps(network.model.cpu(), image[None])
    heats = [_Heat(_place(one), heat) for one in found if (heat := _scaled(one)) is not None]
    if not heats:
        kinds = ", ".join(sorted({one.kind for one in found}))
        raise NoMapsError(
            f"none of the network's attention maps is over positions (they are: {kinds}), so none "
            f"can be laid over a picture."
        )
    return heats


def _place(found: AttentionMap) -> str:
    return f"{found.path}.{found.emitter}" if found.emitter else found.path


def _scaled(found: AttentionMap) -> np.ndarray | None:
    if found.heat is None:
        return None
    heat = found.heat[0].numpy()
    low, high = float(heat.min()), float(heat.max())
    return (heat - low) / (high - low) if high > low else np.zeros_like(heat)


def _overlay(picture: Image.Image, heat: np.ndarray, crop: float, colours: Any) -> Image.Image:
    """The map on the square in the middle that the network saw; the rest is dimmed."""
    side = max(1, round(min(picture.size) * crop))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    grey = Image.fromarray((heat * 255).round().astype(np.uint8)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    coloured = Image.fromarray(
        (colours(np.asarray(grey) / 255)[:, :, :3] * 255).round().astype(np.uint8)
    )
    seen = picture.crop((left, top, left + side, top + side))
    over = Image.blend(picture, Image.new("RGB", picture.size), OPACITY)
    over.paste(Image.blend(seen, coloured, OPACITY), (left, top))
    return over


def _safe(path: str) -> str:
    return re.sub(r"[^\w.]+", "-", path)


def _contact_sheet(heading: str, rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """A row a picture: itself, then its overlays, each with its name below."""
    columns = max(len(row) for row in rows)
    across, down = CELL + GAP, CELL + GAP + LABEL
    width = max(columns * across, round(ImageDraw.Draw(rows[0][0][1]).textlength(heading)) + GAP)
    sheet = Image.new("RGB", (width + GAP, len(rows) * down + GAP + LABEL), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), heading, fill="black")
    for y, row in enumerate(rows):
        for x, (label, image) in enumerate(row):
            left, top = GAP + x * across, GAP + LABEL + y * down
            offset = (CELL - image.width) // 2, (CELL - image.height) // 2
            sheet.paste(image, (left + offset[0], top + offset[1]))
            draw.text((left, top + CELL), _short(label), fill="black")
    return sheet


def _short(label: str) -> str:
    """With its beginning, which tells places apart, and its end."""
    half = LETTERS // 2
    return label if len(label) <= LETTERS else f"{label[:half]}…{label[1 - half :]}"
