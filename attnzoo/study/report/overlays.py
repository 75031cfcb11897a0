"""Attention over a test picture: what the runs kept in `maps.npz`, as small images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from attnzoo.study.runs import DataRecord, Record
from attnzoo.train import MAPS, SavedMap, read_maps

__all__ = ["MapCell", "MapGroup", "MapRow", "map_groups", "sample_strip", "side_by_side", "strip"]

SIDE = 96  # pixels of an overlay
MOST_SITES = 8
# From dark blue over green to yellow, rising evenly in lightness, as matplotlib's viridis: to be
# told apart without red and green, and in print.
COLOURS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=float
)


@dataclass(frozen=True)
class MapCell:
    """One map at one site.

    Attributes:
        path: of the attention.
        emitter: the submodule of the block that returned it.
        gamma: mean |γ|; None without γ.
        low, high: of the map's values on this picture.
        image: JPEG bytes of the map over the picture; empty for a map over channels.
        gates: of a map over channels, its values from the lowest to the highest, at most 48.
    """

    path: str
    emitter: str
    gamma: float | None
    low: float
    high: float
    image: bytes = b""
    gates: tuple[float, ...] = ()

    @property
    def uri(self) -> str:
        """The image for an `<img>`."""
        return "data:image/jpeg;base64," + base64.b64encode(self.image).decode()

    @property
    def told(self) -> str:
        """The lowest and the highest value, and γ where there is one."""
        gamma = "" if self.gamma is None else f", γ {self.gamma:.3f}"
        ends = [f"{0 if abs(end) < 1e-4 else end:.2g}" for end in (self.low, self.high)]
        return "–".join(dict.fromkeys(ends)) + gamma

    @property
    def line(self) -> str:
        """The gates as the points of an SVG polyline in a box of 100 × 60, 0 at the bottom."""
        top = max(1.0, self.high)
        bottom = min(0.0, self.low)
        last = max(len(self.gates) - 1, 1)
        heights = (60 * (top - gate) / (top - bottom) for gate in self.gates)
        return " ".join(f"{100 * i / last:.1f},{h:.1f}" for i, h in enumerate(heights))


@dataclass(frozen=True)
class MapRow:
    """One variant: its maps, and of how many sites, where only some are shown."""

    variant: str
    seed: int
    cells: tuple[MapCell, ...]
    sites: int
    shown: int

    @property
    def emitters(self) -> dict[str, list[MapCell]]:
        """What the variant's block returns maps of → those maps, site by site."""
        found: dict[str, list[MapCell]] = {}
        for cell in self.cells:
            found.setdefault(cell.emitter, []).append(cell)
        return found


@dataclass(frozen=True)
class MapGroup:
    """One backbone: the picture and the variants that have maps."""

    backbone: str
    label: str
    picture: bytes
    rows: tuple[MapRow, ...]

    @property
    def uri(self) -> str:
        """The picture for an `<img>`."""
        return "data:image/png;base64," + base64.b64encode(self.picture).decode()


def map_groups(
    records: Sequence[Record], data: DataRecord | None, sample: int = 0
) -> list[MapGroup]:
    """The maps of one test picture, from each variant's first run that kept some."""
    if data is None or sample >= len(data.pictures):
        return []
    picture = base64.b64decode(data.pictures[sample].png)
    label = data.pictures[sample].label
    groups = []
    for backbone in dict.fromkeys(record.result.backbone for record in records):
        rows: dict[str, MapRow] = {}
        for record in records:
            result = record.result
            readable = MAPS not in record.damaged
            if readable and result.backbone == backbone and result.variant not in rows:
                maps = read_maps(record.folder / MAPS)
                if maps:
                    rows[result.variant] = _row(result.variant, result.seed, maps, picture, sample)
        if rows:
            groups.append(MapGroup(backbone, label, picture, tuple(rows.values())))
    return groups


def strip(row: MapRow) -> bytes:
    """The overlays of a variant side by side, JPEG; empty where it has none."""
    return side_by_side([cell.image for cells in row.emitters.values() for cell in cells])


def sample_strip(data: DataRecord) -> bytes:
    """The test pictures side by side, JPEG; empty where there is none."""
    return side_by_side([base64.b64decode(picture.png) for picture in data.pictures])


def side_by_side(images: Sequence[bytes]) -> bytes:
    """Pictures in a row, JPEG; empty where there is none."""
    shown = [
        np.asarray(Image.open(io.BytesIO(image)).convert("RGB").resize((SIDE, SIDE)))
        for image in images
        if image
    ]
    if not shown:
        return b""
    gap = np.full((SIDE, 4, 3), 255, dtype=np.uint8)
    parts = [part for image in shown for part in (image, gap)]
    return _jpeg(np.concatenate(parts[:-1], axis=1))


def _row(variant: str, seed: int, maps: Sequence[SavedMap], picture: bytes, sample: int) -> MapRow:
    paths = list(dict.fromkeys(found.path for found in maps))
    count = min(len(paths), MOST_SITES)
    # Evenly from the first to the last.
    chosen = {paths[round(i * (len(paths) - 1) / max(count - 1, 1))] for i in range(count)}
    cells = tuple(
        _cell(found, picture, sample)
        for found in maps
        if found.path in chosen and sample < len(found.values)
    )
    return MapRow(variant, seed, cells, len(paths), len(chosen))


def _cell(found: SavedMap, picture: bytes, sample: int) -> MapCell:
    values = found.values[sample]
    cell = MapCell(
        path=found.path,
        emitter=found.emitter,
        gamma=found.gamma,
        low=float(values.min()),
        high=float(values.max()),
    )
    if values.ndim > 1:
        return replace(cell, image=overlay(picture, values))
    ranks = np.linspace(0, len(values) - 1, min(len(values), 48)).round().astype(int)
    return replace(cell, gates=tuple(np.sort(values)[ranks].tolist()))


def overlay(picture: bytes, heat: np.ndarray) -> bytes:
    """A map over the grey picture, JPEG; its colours go from the lowest value to the highest."""
    grey = (
        Image.open(io.BytesIO(picture)).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )
    span = float(np.ptp(heat))
    scaled = (heat - heat.min()) / span if span > 0 else np.zeros_like(heat)
    smooth = np.asarray(
        Image.fromarray(scaled.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    )
    place = np.linspace(0, 1, len(COLOURS))
    colour = np.stack([np.interp(smooth, place, COLOURS[:, c]) for c in range(3)], axis=-1)
    # The picture darkens the colours where it is dark, and never puts them out.
    light = 0.35 + 0.65 * np.asarray(grey, dtype=float)[..., None] / 255
    return _jpeg((colour * light).round().astype(np.uint8))


def _jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=85)
    return out.getvalue()
