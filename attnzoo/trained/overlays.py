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
from PIL import Image, ImageDraw

from attnzoo.errors import NoMapsError
from attnzoo.maps import AttentionMap, attention_maps
from attnzoo.train import open_picture, require
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["write_maps"]

OPACITY = 0.5
CELL, GAP, LABEL = 160, 6, 14  # pixels, on the contact sheet
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
        DataError: a picture cannot be read.
        MissingExtraError: matplotlib is not installed.
    """
    colours = require("matplotlib", "matplotlib").colormaps["inferno"]
    options = network.pictures
    transform = network.transform
    out = Path(out)
    written: list[Path] = []
    rows: list[list[tuple[str, Image.Image]]] = []
    width = len(str(len(pictures)))
    for number, path in enumerate(pictures):
        picture = open_picture(path, options.channels)
        heats = _heats(network, transform(picture))
        shown = picture.convert("RGB")
        row = [(Path(path).name, shown)]
        out.mkdir(parents=True, exist_ok=True)
        for heat in heats:
            over = _overlay(shown, heat.values, options.test_crop or 1.0, colours)
            name = f"{number:0{width}d}-{Path(path).stem}-{_safe(heat.path)}.png"
            over.save(out / name)
            written.append(out / name)
            row.append((heat.path, over))
        if number < ROWS:
            rows.append([(label, image.copy()) for label, image in row[: COLUMNS + 1]])
            for _, image in rows[-1]:
                image.thumbnail((CELL, CELL))
    sheet = out / "contact_sheet.png"
    _contact_sheet(rows).save(sheet)
    return [sheet, *written]


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


def _contact_sheet(rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """A row a picture: itself, then its overlays, each with its name below."""
    columns = max(len(row) for row in rows)
    step = CELL + GAP
    sheet = Image.new("RGB", (columns * step + GAP, len(rows) * (step + LABEL) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, (label, image) in enumerate(row):
            left, top = GAP + x * step, GAP + y * (step + LABEL)
            sheet.paste(image, (left, top))
            draw.text((left, top + CELL), label[-26:], fill="black")
    return sheet
