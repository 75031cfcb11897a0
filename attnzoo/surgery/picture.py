"""A picture of a network with its places: what `Plan.draw` makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnzoo.structure import PARTS, Part, Unit, is_pool, part_of, shown_units
from attnzoo.surgery.svg import Drawing, Kind

if TYPE_CHECKING:
    from attnzoo.surgery.plan import Plan, PlannedSite

__all__ = ["drawn"]

_WIDTH = 1000.0
_LEFT, _RIGHT, _GAP, _BETWEEN = 90.0, 20.0, 4.0, 20.0
_ROOM = 66.0  # below the slabs, for two lines of text
_ATTENTION = 10.0


@dataclass(frozen=True)
class _Piece:
    """A slab: a unit of the network, or attention."""

    kind: Kind
    title: str
    width: float
    channels: int
    size: tuple[int, int]
    parameters: int = 0

    @property
    def height(self) -> float:
        """Compressed, so that 7 and 224 fit together."""
        return 30 * (max(self.size[0], 1) / 7) ** 0.42 + 12 * (self.kind == "attention")


def drawn(plan: Plan) -> str:
    """The text of the SVG."""
    rows = [
        (part if first else "", row)
        for part, pieces in _by_part(plan).items()
        for first, row in _wrapped(pieces)
    ]
    tall = [max(piece.height for group in row for piece in group) for _, row in rows]
    total = round(54 + sum(height + _ROOM for height in tall))
    d = Drawing(round(_WIDTH), total)
    places = f"{len(plan.sites)} place" + "s" * (len(plan.sites) > 1)
    d.text(14, 24, f"{plan.trace.model}: {plan.recipe}", "bold", anchor="start")
    d.text(14, 42, f"{places}, +{plan.parameters:,} parameters", "small accent", anchor="start")
    kinds: tuple[tuple[Kind, str], ...] = (
        ("map", "layer or block"),
        ("pool", "pool"),
        ("attention", "attention"),
    )
    for number, (kind, name) in enumerate(kinds):
        d.box(_WIDTH - 330 + 125 * number, 12, 20, 14, "", kind)
        d.text(_WIDTH - 304 + 125 * number, 24, name, "small soft", anchor="start")
    top = 54.0
    for (part, row), height in zip(rows, tall, strict=True):
        _draw_row(d, part, row, top, height)
        top += height + _ROOM
    return str(d)


def _draw_row(d: Drawing, part: str, row: list[list[_Piece]], top: float, height: float) -> None:
    middle, x = top + height / 2, _LEFT
    d.text(14, middle + 5, part, "small bold", anchor="start")
    for number, group in enumerate(row):
        slabs = sum(piece.width + _GAP for piece in group) - _GAP
        room = max(slabs, _label(group))
        x += (room - slabs) / 2
        at = x + slabs / 2
        for piece in group:
            high = piece.height
            d.slab(x, middle - high / 2, piece.width, high, piece.kind, title=piece.title)
            x += piece.width + _GAP
        sizes = group[-1].size
        side = f"{sizes[0]}²" if sizes[0] == sizes[1] else f"{sizes[0]}×{sizes[1]}"
        d.text(at, top + height + 20, f"{group[-1].channels} × {side}", "small")
        added = sum(piece.parameters for piece in group)
        if any(piece.kind == "attention" for piece in group):
            d.text(at, top + height + 37, f"+{added:,}", "small accent bold")
        if number + 1 < len(row):
            d.arrow((x + 2, middle), (x + (room - slabs) / 2 + _BETWEEN - _GAP, middle))
        x += (room - slabs) / 2 + _BETWEEN


def _label(group: list[_Piece]) -> float:
    """How wide the text below a group is."""
    last = group[-1]
    return 7.0 * len(f"{last.channels} × {last.size[0]}×{last.size[1]}") - 8


def _by_part(plan: Plan) -> dict[Part, list[_Piece]]:
    """The slabs of each part, in forward order."""
    trace, waiting = plan.trace, list(plan.rows)
    found: dict[Part, list[_Piece]] = {part: [] for part in PARTS}
    for unit in shown_units(trace):
        value = unit.call.outputs[0]
        part = part_of(trace, value)
        for row in _taken(waiting, unit):
            found[part_of(trace, row.site.value)].append(_attention(row))
        kind: Kind = "pool" if is_pool(trace, unit.call) else "map"
        maps = unit.output
        width = 8 + min(maps.channels, 2048) / 40 if kind == "map" else 8.0
        title = f"{unit.call.path} ({unit.call.type})"
        size = (maps.height, maps.width)
        found[part].append(_Piece(kind, title, width, maps.channels, size))
    for row in waiting:
        found[part_of(trace, row.site.value)].append(_attention(row))
    return {part: pieces for part, pieces in found.items() if pieces}


def _taken(waiting: list[PlannedSite], unit: Unit) -> Iterator[PlannedSite]:
    """The places on the way to what a unit makes, those inside it among them."""
    while waiting and waiting[0].site.value < unit.call.outputs[0]:
        yield waiting.pop(0)


def _attention(row: PlannedSite) -> _Piece:
    site = row.site
    size = (site.height, site.width)
    return _Piece("attention", str(site), _ATTENTION, site.channels, size, row.parameters)


def _wrapped(pieces: list[_Piece]) -> Iterator[tuple[bool, list[list[_Piece]]]]:
    """The slabs in groups of one resolution, and those in rows that fit the width."""
    groups: list[list[_Piece]] = []
    for _, same in itertools.groupby(pieces, key=lambda piece: piece.size):
        groups += _cut(list(same))
    first, row, used = True, [], 0.0
    for group in groups:
        wide = max(sum(piece.width + _GAP for piece in group), _label(group)) + _BETWEEN
        if row and used + wide > _WIDTH - _LEFT - _RIGHT:
            yield first, row
            first, row, used = False, [], 0.0
        row.append(group)
        used += wide
    if row:
        yield first, row


def _cut(group: list[_Piece]) -> Iterator[list[_Piece]]:
    """A group in parts that fit one row."""
    part: list[_Piece] = []
    for piece in group:
        if sum(one.width + _GAP for one in part) + piece.width > _WIDTH - _LEFT - _RIGHT - 40:
            yield part
            part = []
        part.append(piece)
    yield part
