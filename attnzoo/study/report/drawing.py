"""Figures as SVG: inside a page, where they take its colours, or as files of their own."""

from __future__ import annotations

import html
import io
import re
from typing import Any

from attnzoo.train import require

__all__ = ["GRID", "INK", "PAPER", "new_figure", "short_name", "standalone", "svg"]

# Stand-ins, replaced by the page's own colours.
INK, GRID, PAPER = "#010203", "#040506", "#070809"
LIGHT_INK, LIGHT_GRID, LIGHT_PAPER = "#1d2126", "#dfe2e6", "#ffffff"


def short_name(backbone: str) -> str:
    """`torchvision/resnet18` → `resnet18`, `package.module:function` → `function`."""
    return backbone.partition("/")[2] or backbone.rpartition(":")[2]


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
    return re.sub(r'<svg width="[^"]*" height="[^"]*"', f"<svg {shown}", drawn, count=1)


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
