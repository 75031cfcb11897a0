"""Plots as SVG text that sits inside a page and takes its colours, light or dark, from there."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from attnzoo.study.folder import Record
from attnzoo.study.stats import summarise
from attnzoo.train.extras import require

__all__ = ["accuracy_plot", "cost_plot", "learning_curves", "variant_colours"]

INK, GRID = "#010203", "#040506"  # stand-ins, replaced by the page's own colours
# Distinct in light, in dark and to the colour-blind (Okabe & Ito 2008, brightened); plain is grey.
PLAIN, PALETTE = "#8a8f98", ("#0a84c6", "#e08700", "#0f9d75", "#c96aa5", "#d1562b", "#6f6fd6")
MARKERS = "osD^vP"


def variant_colours(records: Sequence[Record]) -> dict[str, str]:
    """Variant → colour, the same in every plot of a report."""
    names = dict.fromkeys(r.result.variant for r in records if r.result.policy)
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    return {r.result.variant: PLAIN for r in records if not r.result.policy} | colours


def accuracy_plot(records: Sequence[Record], chance: float | None = None) -> str:
    """Top-1 of every backbone and variant: a dot a seed, a bar at their mean."""
    colours = variant_colours(records)
    rows = summarise(record.result for record in records)
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    height = 0.75 + 0.30 * len(rows) + 0.16 * len(backbones)
    figure, axes = _figure(4.1, height)
    ticks, labels, y = [], [], 0.0
    for backbone in backbones:
        axes.text(1.5, y + 0.15, _short(backbone), fontweight="bold", color=INK, va="center")
        y += 0.85
        for row in (row for row in rows if row.backbone == backbone):
            seeds = [
                100 * record.result.top1
                for record in records
                if (record.result.backbone, record.result.variant) == (backbone, row.variant)
                and record.result.top1 is not None
            ]
            if row.top1 is not None:
                axes.barh(y, 100 * row.top1, height=0.62, color=colours[row.variant], alpha=0.9)
                axes.text(max(seeds) + 2, y, f"{100 * row.top1:.1f}", va="center", color=INK)
            if len(seeds) > 1:
                axes.plot(seeds, [y] * len(seeds), "o", markersize=3, color=INK, alpha=0.75)
            ticks.append(y)
            labels.append(row.variant)
            y += 0.8
        y += 0.25
    if chance is not None:
        axes.axvline(100 * chance, color=INK, linewidth=0.8, linestyle=":")
        axes.text(100 * chance + 0.8, y - 0.12, "chance", color=INK, va="center", fontsize=8)
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y + 0.2, -0.4)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("top-1 on test images, %")
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    return _svg(figure, "accuracy")


def learning_curves(records: Sequence[Record], backbone: str) -> str:
    """Test top-1 after every epoch: a thin line a seed."""
    colours = variant_colours(records)
    figure, axes = _figure(3.6, 2.4)
    seen: set[str] = set()
    longest = 1
    for record in records:
        variant, rows = record.result.variant, record.epochs
        if record.result.backbone != backbone or not rows:
            continue
        longest = max(longest, len(rows))
        axes.plot(
            [row["epoch"] for row in rows],
            [100 * (row["test_top1"] or 0) for row in rows],
            color=colours[variant],
            linewidth=1.6,
            marker="o",
            markersize=3,
            label=None if variant in seen else variant,
        )
        seen.add(variant)
    axes.set_title(_short(backbone), color=INK, fontsize=9, loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.set_ylabel("test top-1, %")
    step = max(1, round(longest / 6))
    axes.set_xticks(range(step, longest + 1, step))
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, linewidth=0.6)
    return _svg(figure, f"curves-{backbone}")


def cost_plot(records: Sequence[Record]) -> str:
    """Top-1 against multiply-accumulates: a colour a variant, a marker a backbone."""
    colours = variant_colours(records)
    rows = [r for r in summarise(record.result for record in records) if r.top1 is not None]
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    figure, axes = _figure(4.1, 3.1)
    for row in rows:
        marker = MARKERS[backbones.index(row.backbone) % len(MARKERS)]
        axes.plot(
            row.macs / 1e6,
            100 * (row.top1 or 0),
            marker,
            color=colours[row.variant],
            markersize=7,
            alpha=0.85,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        require("matplotlib.ticker", "matplotlib").LogLocator(subs=(1, 2, 5))
    )
    axes.margins(x=0.18, y=0.15)
    for backbone in backbones:
        best = max((r for r in rows if r.backbone == backbone), key=lambda r: r.top1 or 0)
        axes.annotate(
            _short(backbone),
            (best.macs / 1e6, 100 * (best.top1 or 0)),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=8,
        )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("million multiply-accumulates an image")
    axes.set_ylabel("test top-1, %")
    axes.grid(color=GRID, linewidth=0.6)
    return _svg(figure, "cost")


def _short(backbone: str) -> str:
    return backbone.partition("/")[2] or backbone.rpartition(":")[2]


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # The object interface: pyplot would keep every figure and pick a display.
    figure = require("matplotlib.figure", "matplotlib").Figure(
        figsize=(width, height), layout="constrained"
    )
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """The figure as an `<svg>` element that fits its box and fetches nothing."""
    matplotlib = require("matplotlib", "matplotlib")
    text = io.StringIO()
    # Letters stay letters: they take the page's font, can be searched, and are small.
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    with matplotlib.rc_context(options):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them; no address is left
    svg = svg.replace("xlink:href", "href")
    # Identifiers are per figure, the page has several.
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--rule)")
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 role="img"', svg, count=1)
