"""Small drawings as SVG, readable on light and on dark pages.

Lines and text take the colour of the page (`currentColor`). Where the file stands alone, as a
picture in the README, a media query gives that colour instead.
"""

from __future__ import annotations

from html import escape
from typing import Literal

__all__ = ["Drawing", "Kind"]

Kind = Literal["plain", "map", "attention", "pool", "ghost"]

STYLE = """
svg:root { color: #1f2328 }
@media (prefers-color-scheme: dark) { svg:root { color: #e6edf3 } }
.az text { fill: currentColor; font: 14px system-ui, "Segoe UI", Roboto, sans-serif }
.az .mono { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px }
.az .small { font-size: 12px }
.az .soft { opacity: .72 }
.az .bold { font-weight: 600 }
.az .accent { fill: #e8590c }
.az rect, .az path, .az circle { stroke-width: 1.4 }
.az .plain { fill: currentColor; fill-opacity: .05; stroke: currentColor; stroke-opacity: .55 }
.az .map { fill: #0d9488; fill-opacity: .26; stroke: #0d9488 }
.az .attention { fill: #e8590c; fill-opacity: .34; stroke: #e8590c }
.az .pool { fill: #6366f1; fill-opacity: .28; stroke: #6366f1 }
.az .ghost { fill: none; stroke: currentColor; stroke-opacity: .45; stroke-dasharray: 4 4 }
.az .line { fill: none; stroke: currentColor; stroke-opacity: .7 }
.az .flow { fill: none; stroke: #e8590c }
.az .head { fill: currentColor; fill-opacity: .8; stroke: none }
.az .flowhead { fill: #e8590c; stroke: none }
""".strip()


class Drawing:
    """Shapes on a canvas of `width` × `height` units; `str()` gives the SVG."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._shapes: list[str] = []

    def box(
        self, x: float, y: float, w: float, h: float, text: str = "", kind: Kind = "plain", **k: str
    ) -> None:
        """A rounded box with its text, one line per newline, in the middle."""
        self._shapes.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6"/>'
        )
        lines = text.split("\n") if text else []
        top = y + h / 2 + 5 - 9 * (len(lines) - 1)
        for row, line in enumerate(lines):
            self.text(x + w / 2, top + 18 * row, line, **k)

    def slab(self, x: float, y: float, w: float, h: float, kind: Kind, *, title: str = "") -> None:
        """A feature map or layer seen from the side: a box with square corners.

        `title` is shown where a pointer rests on it.
        """
        place = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="2"'
        ends = f"><title>{escape(title)}</title></rect>" if title else "/>"
        self._shapes.append(f'<rect class="{kind}" {place}{ends}')

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> None:
        """A line of text whose baseline is at `y`."""
        place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{style}"'
        self._shapes.append(f"<text {place}>{escape(text)}</text>")

    def arrow(self, *points: tuple[float, float], style: str = "line", head: bool = True) -> None:
        """A line through `points`, ending in an arrowhead."""
        (x0, y0), (x1, y1) = points[-2:]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        tip = (x1 - 6 * ux, y1 - 6 * uy) if head else (x1, y1)
        route = " ".join(f"{x:g},{y:g}" for x, y in (*points[:-1], tip))
        self._shapes.append(f'<path class="{style}" d="M {route.replace(" ", " L ")}"/>')
        if head:
            left = (x1 - 9 * ux + 4.5 * uy, y1 - 9 * uy - 4.5 * ux)
            right = (x1 - 9 * ux - 4.5 * uy, y1 - 9 * uy + 4.5 * ux)
            corners = " L ".join(f"{x:.1f},{y:.1f}" for x, y in ((x1, y1), left, right))
            kind = "flowhead" if style == "flow" else "head"
            self._shapes.append(f'<path class="{kind}" d="M {corners} Z"/>')

    def plus(self, x: float, y: float, sign: str = "+") -> None:
        """A small circle with the sign of an operation."""
        self._shapes.append(f'<circle class="plain" cx="{x:g}" cy="{y:g}" r="11"/>')
        self.text(x, y + 5, sign)

    def __str__(self) -> str:
        shapes = "\n".join(self._shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="az" '
            f'viewBox="0 0 {self.width} {self.height}" width="{self.width}">\n'
            f"<style>\n{STYLE}\n</style>\n{shapes}\n</svg>\n"
        )
