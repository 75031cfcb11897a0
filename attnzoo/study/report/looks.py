"""How variants look in plots, tables and legends: a colour and a marker each, a line for many.

The colours have a contrast of at least 3:1 on light and on dark paper and are those of Okabe and
Ito (2008), darkened; two variants of like colours for the colour-blind differ in their marker.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from attnzoo.study.runs import Record

__all__ = ["PALETTE", "PLAIN", "Look", "glyph", "variant_looks"]

PLAIN = "#8a8f98"
PALETTE = ("#0a84c6", "#c77700", "#0f9d75", "#c4609f", "#d1562b", "#6f6fd6", "#8a7f00")
LINES = ("-", "--", "-.", ":")

#: Marker of matplotlib → the same as an SVG path in a box of 12 × 12.
MARKERS = {
    "o": "M6 1.4a4.6 4.6 0 1 0 .01 0z",
    "s": "M1.8 1.8h8.4v8.4h-8.4z",
    "^": "M6 .8L11.2 10.4H.8z",
    "D": "M6 .4L11.6 6 6 11.6.4 6z",
    "v": "M6 11.2L.8 1.6h10.4z",
    "P": "M4.2.8h3.6v3.4h3.4v3.6H7.8v3.4H4.2V7.8H.8V4.2h3.4z",
    "X": "M3.2.8L6 3.6 8.8.8l2.4 2.4L8.4 6l2.8 2.8-2.4 2.4L6 8.4l-2.8 2.8L.8 8.8 3.6 6 .8 3.2z",
    "h": "M6 .6l4.8 2.7v5.4L6 11.4 1.2 8.7V3.3z",
}


@dataclass(frozen=True)
class Look:
    """What a variant is told apart by.

    Attributes:
        colour: as `#rrggbb`.
        marker: of matplotlib.
        line: style of its learning curve.
    """

    colour: str
    marker: str
    line: str


def variant_looks(records: Sequence[Record]) -> dict[str, Look]:
    """Variant → its look, the same in the whole report; 56 differ, and plain networks are grey."""
    plains = dict.fromkeys(r.result.variant for r in records if not r.result.policy)
    looks = {
        name: Look(PLAIN, marker, LINES[i % len(LINES)])
        for i, (name, marker) in enumerate(zip(plains, itertools.cycle(MARKERS), strict=False))
    }
    markers = [*list(MARKERS)[1:], "o"]  # the circle last: it is plain's
    names = dict.fromkeys(r.result.variant for r in records if r.result.policy)
    for i, name in enumerate(names):
        looks[name] = Look(
            PALETTE[i % len(PALETTE)],
            markers[i % len(markers)],
            LINES[i // len(PALETTE) % len(LINES)],
        )
    return looks


def glyph(look: Look) -> str:
    """The marker as an SVG element that stands in a line of text."""
    return (
        f'<svg class="glyph" viewBox="0 0 12 12" aria-hidden="true">'
        f'<path fill="{look.colour}" d="{MARKERS[look.marker]}"/></svg>'
    )
