"""Figures as SVG: inside a page, where they take its colours, or as files of their own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from attnzoo.files import written_whole
from attnzoo.train import require

__all__ = [
    "GRID",
    "INK",
    "PAPER",
    "kept_figures",
    "new_figure",
    "pdf",
    "short_name",
    "shortened",
    "standalone",
    "svg",
]

# Stand-ins, replaced by the page's own colours.
INK, GRID, PAPER = "#010203", "#040506", "#070809"
LIGHT_INK, LIGHT_GRID, LIGHT_PAPER = "#1d2126", "#dfe2e6", "#ffffff"

LONGEST = 48  # letters of a label

Kept = dict[str, tuple[Any, str]]
_kept: ContextVar[Kept | None] = ContextVar("kept figures", default=None)


@contextmanager
def kept_figures() -> Generator[Kept]:
    """Keep what is drawn meanwhile: name → matplotlib's figure and the `<svg>` element."""
    kept: Kept = {}
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def short_name(backbone: str) -> str:
    """`torchvision/resnet18` → `resnet18`, `package.module:function` → `function`."""
    return backbone.partition("/")[2] or backbone.rpartition(":")[2]


def shortened(text: str) -> str:
    """What fits into a plot of a label; tables and legends have all of it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def new_figure(
    width: float, height: float, left: float = 0.55, top: float = 0.08
) -> tuple[Any, Any]:
    """An empty figure and its axes; sizes in inches, the margins left and above among them.

    Margins are fixed: plots side by side line up, and matplotlib need not draw twice to find them.
    """
    # The object interface: pyplot would keep every figure and pick a display.
    figure = require("matplotlib.figure", "matplotlib").Figure(figsize=(width, height))
    right, bottom = 0.18, 0.42
    box = (left, bottom, width - left - right, height - bottom - top)
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(8.5)
    axes.set_axisbelow(True)
    return figure, axes


def svg(figure: Any, name: str) -> str:
    """The figure as an `<svg>` element that fits its box and fetches nothing."""
    matplotlib = require("matplotlib", "matplotlib")
    text = io.StringIO()
    # Letters stay letters: they take the page's font, can be searched, and are small.
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    options["text.parse_math"] = False  # a $ in a name is a $
    for label in figure.findobj(require("matplotlib.text", "matplotlib").Text):
        label.set_parse_math(False)
    with matplotlib.rc_context(options):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)  # HTML knows them; no address is left
    drawn = drawn.replace("xlink:href", "href")
    # Identifiers are per figure, the page has several.
    prefix = re.sub(r"\W", "-", name)
    drawn = re.sub(r'\bid="', f'id="{prefix}-', drawn)
    drawn = drawn.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    drawn = drawn.replace(INK, "currentColor").replace(GRID, "var(--rule)")
    drawn = drawn.replace(PAPER, "var(--card)")
    drawn = re.sub(r"font-family: [^;\"]*; ?", "", drawn)
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)  # holds for a page
    shown = f'role="img" aria-label="{html.escape(name)}"'
    drawn = re.sub(r'<svg width="[^"]*" height="[^"]*"', f"<svg {shown}", drawn, count=1)
    kept = _kept.get()
    if kept is not None:
        kept[name] = figure, drawn
    return drawn


def standalone(drawn: str) -> str:
    """The same as a file of its own, on white paper."""
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'style="background: {LIGHT_PAPER}"'
    )
    drawn = drawn.replace("<svg", head, 1)
    for colour, light in (
        ("currentColor", LIGHT_INK),
        ("var(--rule)", LIGHT_GRID),
        ("var(--card)", LIGHT_PAPER),
    ):
        drawn = drawn.replace(colour, light)
    return drawn + "\n"


def pdf(figure: Any, path: Path) -> None:
    """Write the figure as PDF, in ink on no paper, with letters that can be searched."""
    matplotlib = require("matplotlib", "matplotlib")
    with (
        written_whole(path) as partial,
        matplotlib.rc_context({"pdf.fonttype": 42, "font.size": 9}),
    ):
        figure.draw_without_rendering()  # ticks come into being
        for artist in figure.findobj():
            _in_ink(artist)
        figure.savefig(partial, format="pdf", metadata={"CreationDate": None})


def _in_ink(artist: Any) -> None:
    """Give an artist real colours for the stand-ins."""
    colors = require("matplotlib.colors", "matplotlib")
    if hasattr(artist, "get_bbox_patch") and artist.get_bbox_patch() is not None:
        _in_ink(artist.get_bbox_patch())
    lights = {INK: LIGHT_INK, GRID: LIGHT_GRID, PAPER: LIGHT_PAPER}
    for name in ("color", "edgecolor", "facecolor", "markeredgecolor", "markerfacecolor"):
        value = getattr(artist, f"get_{name}", lambda: None)()
        if not colors.is_color_like(value) or colors.to_rgba(value)[3] == 0:
            continue
        light = lights.get(colors.to_hex(value))
        if light is not None:
            getattr(artist, f"set_{name}")(colors.to_rgba(light, colors.to_rgba(value)[3]))
