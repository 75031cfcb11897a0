"""Plots: what is drawn for whom, from made-up results."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from studies import result

from attnzoo.study.numbers.stats import summarise
from attnzoo.study.report import plots
from attnzoo.study.report.drawing import kept_figures, standalone
from attnzoo.study.report.looks import variant_looks
from attnzoo.study.runs.record import Record
from attnzoo.train import RunSpec


def records(top1: dict[tuple[str, str], list[float]]) -> list[Record]:
    """Backbone and variant → top-1 of seeds 0, 1, …"""
    spec = RunSpec.model_validate({"backbone": "x", "data": {"name": "cluttered-digits"}})
    return [
        Record(spec, result(variant, seed, value, backbone=backbone), [], Path())
        for (backbone, variant), values in top1.items()
        for seed, value in enumerate(values)
    ]


STUDY = records(
    {
        ("torchvision/net18", "plain"): [0.5, 0.52, 0.54],
        ("torchvision/net18", "se"): [0.6, 0.61, 0.65],
        ("package:other", "plain"): [0.7, 0.71, 0.70],
        ("package:other", "se"): [0.7, 0.72, 0.68],
    }
)
ROWS = summarise(record.result for record in STUDY)
LOOKS = variant_looks(STUDY)


def texts(svg: str) -> list[str]:
    return [
        element.text or ""
        for element in ElementTree.fromstring(standalone(svg)).iter()
        if element.tag.endswith("text")
    ]


def test_effects_are_one_line_a_comparison() -> None:
    told = texts(plots.effect_plot(ROWS, STUDY, LOOKS))
    shown = [text for text in told if text in ("net18", "other", "se", "plain")]
    assert sorted(shown) == ["net18", "other", "se", "se"]


def test_a_long_name_is_cut_off_where_the_plot_ends() -> None:
    name = "match(pattern=features.*.residual) + cbam reduction=4 kernel_size=5"
    made = records({("a", "plain"): [0.5], ("a", name): [0.6]})
    rows = summarise(record.result for record in made)
    told = texts(plots.effect_plot(rows, made, variant_looks(made)))
    assert f"{name[:47]}…" in told


def test_an_interval_beyond_the_plot_has_an_arrow() -> None:
    def arrows(values: list[float]) -> int:
        made = records({("a", "plain"): [0.5, 0.5], ("a", "se"): values})
        rows = summarise(record.result for record in made)
        svg = plots.effect_plot(rows, made, variant_looks(made))
        # Five markers of one path each: two dots share theirs, the mean, and each arrow.
        return len(re.findall("<defs>", svg))

    assert arrows([0.50, 0.51]) > arrows([0.51, 0.51])


def test_differences_of_seeds_are_paired() -> None:
    row = next(r for r in ROWS if (r.backbone, r.variant) == ("torchvision/net18", "se"))
    points = plots._seed_differences(STUDY, row, row.difference)
    assert points == pytest.approx([10, 9, 11])
    assert plots._reach([row.difference], [points]) >= 11


def test_all_backbones_are_in_the_overview() -> None:
    told = texts(plots.cost_plot(ROWS, LOOKS))
    assert {"net18", "other"} <= set(told)
    assert "million multiply-accumulates an image" in told


@pytest.mark.parametrize("step", [10_000, 400_000_000])
def test_numbers_and_names_of_the_overview_are_apart(step: int) -> None:
    """Whether the backbones' costs are close or far, nothing lies on anything else as drawn."""
    rows = [replace(row, macs=31_340_000 + step * i) for i, row in enumerate(ROWS)]
    with kept_figures() as kept:
        plots.cost_plot(rows, LOOKS)
    ((figure, _),) = kept.values()
    figure.canvas.draw()
    (axes,) = figure.axes
    inside = axes.get_xlim()
    ticks = [
        tick.get_window_extent()
        for tick in axes.get_xticklabels()
        if tick.get_text() and inside[0] <= tick.get_position()[0] <= inside[1]
    ]
    ticks.sort(key=lambda box: box.x0)
    assert len(ticks) >= 2
    assert all(other.x0 - one.x1 > 10 for one, other in itertools.pairwise(ticks))
    assert len(axes.texts) == 2
    for name in axes.texts:
        assert name.get_window_extent().x0 > axes.get_window_extent().x0


def test_a_front_needs_its_cost() -> None:
    assert plots.pareto_plot(ROWS, "package:other", "latency", None, LOOKS) == ""
    assert "parameters" in texts(
        plots.pareto_plot(ROWS, "package:other", "parameters", None, LOOKS)
    )


def test_curves_are_of_the_epochs_that_were_tested() -> None:
    rows = [
        [{"epoch": 1.0, "test_top1": 0.2}, {"epoch": 2.0, "test_top1": None}],
        [{"epoch": 1.0, "test_top1": 0.4}, {"epoch": 2.0, "test_top1": 0.5}],
    ]
    made = [replace(record, epochs=rows[i]) for i, record in enumerate(STUDY[:2])]
    svg = plots.learning_curves(made, "torchvision/net18", LOOKS)
    assert "net18" in texts(svg)
    assert "FillBetween" in svg  # two seeds at the first epoch
    alone = plots.learning_curves(made[1:], "torchvision/net18", LOOKS)
    assert "FillBetween" not in alone


def test_chance_is_a_dotted_line() -> None:
    told = texts(plots.accuracy_plot(ROWS, STUDY, LOOKS, 0.1))
    assert "top-1 % on test images; dotted: chance" in told
    assert {"52.0", "62.0", "70.3", "70.0"} <= set(told)
