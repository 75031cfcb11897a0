"""Plots over many backbones: critical differences, and performance profiles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attnzoo.study.numbers import profile, profile_band
from attnzoo.study.report.across import Across
from attnzoo.study.report.drawing import GRID, INK, new_figure, shortened, svg
from attnzoo.study.report.looks import Look
from attnzoo.train import require

__all__ = ["profile_plots", "rank_plot"]

ROW = 0.34  # inches
SMALL = 4  # variants in one plot of profiles


def rank_plot(found: Across, looks: Mapping[str, Look]) -> str:
    """A line a variant at its mean rank; bars join those that are not told apart."""
    ranks = list(found.ranks.mean.items())
    groups = found.ranks.groups
    figure, axes = new_figure(3.4, 0.6 + ROW * (len(ranks) + 1), left=0.18)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    low, high = ranks[0][1], ranks[-1][1]
    step = max(high - low, 1) / 25
    for y, (variant, rank) in enumerate(ranks):
        look = looks[variant]
        axes.text(low - step, y - 0.42, shortened(variant), color=INK, va="center", fontsize=8.5)
        axes.plot(rank, y, look.marker, color=look.colour, markersize=6.5, zorder=3)
    first = {rank: y for y, (_, rank) in reversed(list(enumerate(ranks)))}
    last = {rank: y for y, (_, rank) in enumerate(ranks)}
    for i, (best, worst) in enumerate(groups):
        x = high + step * (2 + i)
        axes.plot([x, x], [first[best] - 0.25, last[worst] + 0.25], color=INK, linewidth=2.2)
    axes.set_xlim(low - step, high + step * (3 + len(groups)))
    axes.set_ylim(len(ranks) - 0.6, -0.9)
    ticks = require("matplotlib.ticker", "matplotlib").MaxNLocator(6, integer=True)
    axes.set_xticks([tick for tick in ticks.tick_values(low, high) if low - step <= tick <= high])
    axes.set_xlabel("mean rank; a bar joins what is not told apart")
    return svg(figure, "ranks")


def profile_plots(found: Across, looks: Mapping[str, Look]) -> list[str]:
    """Share of runs that add more than so many points, some variants in each plot."""
    names = list(found.points)
    every = np.concatenate([values for name in names for values in found.points[name]])
    reach = max(float(np.quantile(np.abs(every), 0.98)), 0.5)
    at = np.linspace(-reach, reach, 161)
    drawn = []
    for start in range(0, len(names), SMALL):
        figure, axes = new_figure(2.8, 2.3)
        for name in names[start : start + SMALL]:
            look, values = looks[name], found.points[name]
            low, high = profile_band(values, at)
            axes.fill_between(at, 100 * low, 100 * high, color=look.colour, alpha=0.13, linewidth=0)
            axes.plot(
                at,
                100 * profile(values, at),
                color=look.colour,
                linestyle=look.line,
                linewidth=1.6,
                marker=look.marker,
                markersize=4,
                markevery=20,
            )
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_ylim(0, 102)
        axes.set_xlim(-reach, reach)
        axes.set_xlabel("more than so many points over plain")
        axes.set_ylabel("runs, %")
        axes.grid(color=GRID, linewidth=0.6)
        drawn.append(svg(figure, f"profiles-{start // SMALL + 1}"))
    return drawn
