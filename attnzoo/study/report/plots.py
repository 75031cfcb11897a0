"""The plots of a study's report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from attnzoo.study.numbers import (
    COST_LABELS,
    COST_UNITS,
    METRICS,
    Costs,
    Difference,
    Measure,
    Summary,
    cost_of,
    on_front,
)
from attnzoo.study.report.drawing import GRID, INK, PAPER, new_figure, short_name, shortened, svg
from attnzoo.study.report.looks import Look
from attnzoo.study.report.table import comparisons
from attnzoo.study.runs import Record
from attnzoo.train import require

__all__ = ["accuracy_plot", "cost_plot", "effect_plot", "learning_curves", "pareto_plot"]

BACKBONE_MARKERS = "osD^vPXh"
TOP1 = METRICS["top1"]
SPREAD = 4  # times as many multiply-accumulates, from which their axis is logarithmic
ROW = 0.34  # inches, of a plot with a line a variant

Looks = Mapping[str, Look]


def effect_plot(
    rows: Sequence[Summary], records: Sequence[Record], looks: Looks, measure: Measure = TOP1
) -> str:
    """Every comparison: the mean paired difference, its 95% interval, and a dot a seed."""
    shown = comparisons(rows)
    dots = [_seed_differences(records, row, difference, measure) for row, difference in shown]
    margin = _margin([difference for _, difference in shown])
    reach = max(_reach([difference for _, difference in shown], dots), 1.3 * margin)
    figure, axes = _lines([row for row, _ in shown])
    places = _places(axes, [row for row, _ in shown], -reach)
    for (row, difference), values, y in zip(shown, dots, places, strict=True):
        look = looks[row.variant]
        filled = difference is row.difference
        label = row.variant if filled else f"{row.variant}, over its control"
        _label(axes, -reach, y - 0.45, label)
        _interval(axes, y, difference, look, reach)
        axes.plot(values, [y] * len(values), ".", color=INK, markersize=3.5, alpha=0.55)
        axes.plot(
            100 * difference.mean,
            y,
            look.marker,
            color=look.colour,
            markersize=6.5,
            markerfacecolor=look.colour if filled else "none",
            markeredgewidth=1.4,
            zorder=3,
        )
    axes.axvline(0, color=INK, linewidth=0.9)
    if margin:
        axes.axvspan(-margin, margin, color=INK, alpha=0.1, linewidth=0, zorder=0)
    axes.set_xlim(-reach * 1.03, reach * 1.03)
    band = f"; band: ±{margin:g}" if margin else ""
    axes.set_xlabel(f"difference in {measure.told}, {measure.points}{measure.better}{band}")
    return svg(figure, "effects")


def _lines(rows: Sequence[Summary]) -> tuple[Any, Any]:
    """A narrow figure that has room for a line of each row, and one for each backbone."""
    backbones = len({row.backbone for row in rows})
    figure, axes = new_figure(3.4, 0.55 + ROW * (len(rows) + backbones), left=0.18)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    return figure, axes


def _places(axes: Any, rows: Sequence[Summary], left: float) -> list[float]:
    """The height of each row, with the backbones' names set above theirs."""
    places, y, previous = [], -1.0, None
    for row in rows:
        if row.backbone != previous:
            y += 1
            previous = row.backbone
            _label(axes, left, y - 1, short_name(row.backbone), fontweight="bold")
        places.append(y)
        y += 1
    axes.set_ylim(y - 0.6, -1.4)
    return places


def _label(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Text above a line of a plot, legible where other lines cross it."""
    text = shortened(text)
    paper = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    axes.text(x, y, text, color=INK, va="center", fontsize=8.5, bbox=paper, **style)


def _seed_differences(
    records: Sequence[Record], row: Summary, difference: Difference, measure: Measure = TOP1
) -> list[float]:
    """The points by which a variant differs from its baseline at each seed."""
    scores = {
        (r.result.variant, r.result.seed): measure.of(r.result)
        for r in records
        if r.result.backbone == row.backbone
    }
    pairs = (
        (ours, scores.get((difference.baseline, seed)))
        for (variant, seed), ours in scores.items()
        if variant == row.variant
    )
    return [100 * (a - b) for a, b in pairs if a is not None and b is not None]


def _margin(differences: Sequence[Difference]) -> float:
    """The points within which two are the same, or 0: none was settled, or several were."""
    margins = {difference.margin for difference in differences}
    return 100 * (margins.pop() or 0) if len(margins) == 1 else 0.0


def _reach(differences: Sequence[Difference], dots: Sequence[Sequence[float]]) -> float:
    """Half the width of the plot: all dots fit, and all intervals but the very wide ones."""
    farthest = max((abs(value) for values in dots for value in values), default=0)
    ends = [
        100 * max(abs(d.low), abs(d.high))
        for d in differences
        if d.low is not None and d.high is not None
    ]
    return max(min(max(ends, default=0), 3 * farthest), 1.1 * farthest, 0.5)


def _interval(axes: Any, y: float, difference: Difference, look: Look, reach: float) -> None:
    """A line from end to end, with an arrow where it goes on beyond the plot."""
    if difference.low is None or difference.high is None:
        return
    low, high = 100 * difference.low, 100 * difference.high
    axes.plot(
        [max(low, -reach), min(high, reach)], [y, y], color=look.colour, linewidth=2, alpha=0.8
    )
    for end, mark, beyond in ((-reach, "<", low < -reach), (reach, ">", high > reach)):
        if beyond:
            axes.plot(end, y, mark, color=look.colour, markersize=5)


def accuracy_plot(
    rows: Sequence[Summary],
    records: Sequence[Record],
    looks: Looks,
    chance: float | None = None,
    measure: Measure = TOP1,
) -> str:
    """The metric of every backbone and variant: a dot a seed, a bar at their mean."""
    by_variant: dict[tuple[str, str], list[float]] = {}
    for record in records:
        value = measure.of(record.result)
        if value is not None:
            key = record.result.backbone, record.result.variant
            by_variant.setdefault(key, []).append(100 * value)
    reach = 100.0
    if measure.lower:
        reach = max((v for values in by_variant.values() for v in values), default=1.0) or 1.0
    figure, axes = _lines(rows)
    for row, y in zip(rows, _places(axes, rows, reach / 200), strict=True):
        _label(axes, reach / 200, y - 0.45, row.variant)
        seeds = by_variant.get((row.backbone, row.variant), [])
        if row.score is not None:
            axes.barh(y, 100 * row.score, height=0.4, color=looks[row.variant].colour, alpha=0.9)
            told = f"{100 * row.score:.1f}"
            axes.text(max(seeds) + reach / 50, y, told, va="center", color=INK, fontsize=8.5)
        if len(seeds) > 1:
            axes.plot(seeds, [y] * len(seeds), "o", markersize=3, color=INK, alpha=0.75)
    dotted = ""
    if chance is not None and measure.name == "top1":
        axes.axvline(100 * chance, color=INK, linewidth=0.8, linestyle=":")
        dotted = "; dotted: chance"
    axes.set_xlim(0, 1.1 * reach)
    if not measure.lower:
        axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(f"{measure.heading} on test images{measure.better}{dotted}")
    return svg(figure, "accuracy")


def learning_curves(records: Sequence[Record], backbone: str, looks: Looks) -> str:
    """Test top-1 (or mAP, or loss) after every epoch: the mean over seeds, in a band of all seeds.

    The band has no assumption in it; an interval by Student's t would fill the plot with 3 seeds.
    """
    column, told, scale = _curve(records)
    figure, axes = new_figure(3.6, 2.5, top=0.25)
    longest = 1
    for variant, look in looks.items():
        by_epoch: dict[float, list[float]] = {}
        for record in records:
            if (record.result.backbone, record.result.variant) != (backbone, variant):
                continue
            for row in record.epochs:
                value = row.get(column)
                if row["epoch"] is not None and value is not None:
                    by_epoch.setdefault(row["epoch"], []).append(scale * value)
        if not by_epoch:
            continue
        epochs = sorted(by_epoch)
        longest = max(longest, int(epochs[-1]))
        if max(map(len, by_epoch.values())) > 1:
            low, high = ([end(by_epoch[e]) for e in epochs] for end in (min, max))
            axes.fill_between(epochs, low, high, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(
            epochs,
            [statistics.fmean(by_epoch[epoch]) for epoch in epochs],
            color=look.colour,
            linestyle=look.line,
            linewidth=1.6,
            marker=look.marker,
            markersize=4,
            markevery=max(1, len(epochs) // 8),
        )
    axes.set_title(short_name(backbone), color=INK, fontsize=9, loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.set_ylabel(told)
    step = max(1, round(longest / 6))
    axes.set_xticks(range(step, longest + 1, step))
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, linewidth=0.6)
    return svg(figure, f"curves-{backbone}")


def _curve(records: Sequence[Record]) -> tuple[str, str, float]:
    """What of an epoch is drawn: a column, its name at the axis, and what it is multiplied by."""
    known = {name for r in records for row in r.epochs for name, x in row.items() if x is not None}
    if "test_top1" not in known and "test_map" in known:
        return "test_map", "test mAP, %", 100.0
    if "test_top1" not in known and "test_loss" in known:
        return "test_loss", "test loss", 1.0
    return "test_top1", "test top-1, %", 100.0


def pareto_plot(
    rows: Sequence[Summary],
    backbone: str,
    cost: str,
    costs: Costs | None,
    looks: Looks,
    measure: Measure = TOP1,
) -> str:
    """The metric of a backbone's variants against a cost; filled and joined: the front of means.

    Bars are the 95% interval of the mean and, of a latency, the quartiles. Empty where that cost
    was not measured.
    """
    own = [row for row in rows if row.backbone == backbone and row.score is not None]
    priced = [(row, cost_of(row, cost, costs), 100 * (row.score or 0)) for row in own]
    points = [(row, price, score) for row, price, score in priced if price is not None]
    if not points:
        return ""
    marks = on_front([(price, measure.sign * score) for _, price, score in points])
    figure, axes = new_figure(2.8, 2.3)
    front = sorted(
        (price, score) for (_, price, score), on in zip(points, marks, strict=True) if on
    )
    axes.plot(*zip(*front, strict=True), color=INK, linewidth=0.9, alpha=0.6, zorder=1)
    for (row, price, score), on in zip(points, marks, strict=True):
        look = looks[row.variant]
        measured = costs.of(backbone, row.variant) if costs and cost == "latency" else None
        if row.low is not None and row.high is not None:
            axes.plot(
                [price, price], [100 * row.low, 100 * row.high], color=look.colour, alpha=0.45
            )
        if measured is not None:
            quartiles = [measured.latency.low / 1e3, measured.latency.high / 1e3]
            axes.plot(quartiles, [score, score], color=look.colour, alpha=0.45)
        axes.plot(
            price,
            score,
            look.marker,
            color=look.colour,
            markerfacecolor=look.colour if on else "none",
            markersize=7,
            markeredgewidth=1.4,
            zorder=3,
        )
    axes.set_xlabel(COST_LABELS[cost])
    axes.set_ylabel(f"test {measure.heading}{measure.better}")
    ticker, unit = require("matplotlib.ticker", "matplotlib"), COST_UNITS[cost]
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(ticker.EngFormatter(unit, sep=" " if unit else ""))
    axes.margins(x=0.12, y=0.12)
    bottom, top = axes.get_ylim()
    axes.set_ylim(
        max(bottom, 0), top if measure.lower else min(top, 100)
    )  # intervals may go on, accuracies don't
    axes.grid(color=GRID, linewidth=0.6)
    return svg(figure, f"pareto-{cost}-{backbone}")


def cost_plot(rows: Sequence[Summary], looks: Looks, measure: Measure = TOP1) -> str:
    """The metric against MACs of several backbones: each has a marker of its own."""
    rows = [row for row in rows if row.score is not None]
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    figure, axes = new_figure(3.6, 2.6)
    for row in rows:
        marker = BACKBONE_MARKERS[backbones.index(row.backbone) % len(BACKBONE_MARKERS)]
        axes.plot(
            row.macs / 1e6,
            100 * (row.score or 0),
            marker,
            color=looks[row.variant].colour,
            markersize=7,
            alpha=0.85,
        )
    ticker = require("matplotlib.ticker", "matplotlib")
    least, most = (end(row.macs for row in rows) for end in (min, max))
    if most > SPREAD * least:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    else:  # ticks of a logarithmic axis would run into each other
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.margins(x=0.18, y=0.15)
    for backbone in backbones:
        own = (r for r in rows if r.backbone == backbone)
        best = max(own, key=lambda r: measure.sign * (r.score or 0))
        at = (best.macs / 1e6, 100 * (best.score or 0))
        across = axes.transAxes.inverted().transform(axes.transData.transform(at))[0]
        axes.annotate(
            short_name(backbone),
            at,
            xytext=(0, 7),
            textcoords="offset points",
            # From the point inwards, for names are long and must not lie across the axis.
            ha="left" if across < 1 / 3 else "right" if across > 2 / 3 else "center",
            color=INK,
            fontsize=8,
        )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("million multiply-accumulates an image")
    axes.set_ylabel(f"test {measure.heading}{measure.better}")
    axes.grid(color=GRID, linewidth=0.6)
    return svg(figure, "cost")
