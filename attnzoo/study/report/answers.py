"""What the networks answered: measures, classes, confusions, and images that set two apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnzoo.study.definition import Study
from attnzoo.study.numbers import (
    Answers,
    Contrasts,
    Images,
    Summary,
    best_variants,
    compare_images,
)
from attnzoo.study.report.drawing import GRID, INK, new_figure, shortened, svg
from attnzoo.study.report.sheets import Sheet
from attnzoo.study.report.table import comparisons, interval_text, small_p
from attnzoo.study.runs import DataRecord, Record
from attnzoo.train import Predictions, confusion, require

__all__ = ["answers_content", "measure_sheet"]

RIGHT, WRONG = (0.16, 0.5, 0.62), (0.82, 0.29, 0.36)  # red, green, blue
OTHERS = ("map", "f1", "mae", "r2")  # of several labels, and of numbers
LISTED = 20  # classes in a table
WRITTEN = 12  # classes up to which cells have numbers
DRAWN = 60  # classes, beyond which a confusion matrix is no picture


@dataclass(frozen=True)
class Cell:
    """A picture on which two variants differ: JPEG in base64, its class, the wrong answer."""

    picture: str
    label: str
    taken_for: str


@dataclass(frozen=True)
class ContactSheet:
    """Images that `right` has right at all seeds and `wrong` at none; of all, some are shown."""

    backbone: str
    right: str
    wrong: str
    count: int
    cells: tuple[Cell, ...]


def measure_sheet(rows: Sequence[Summary], records: Sequence[Record]) -> Sheet:
    """What was measured beside the metric of the verdicts."""
    fields = ("top1", "balanced", "macro_f1", "test_loss", "calibration_error", *OTHERS)
    found: dict[tuple[str, str], list[list[float | None]]] = {}
    for record in records:
        result = record.result
        if result.status == "finished":
            key = result.backbone, result.variant
            found.setdefault(key, []).append([getattr(result, name) for name in fields])
    lines = [
        (row.backbone, (row.variant, *_means(found[row.backbone, row.variant])))
        for row in rows
        if (row.backbone, row.variant) in found
    ]
    headings = ("variant", "top-1 %", "balanced %", "macro F1 %", "loss", "calibration %")
    headings = (*headings, "mAP %", "F1 %", "MAE", "R²")
    return Sheet.of(headings, lines)


def _means(values: Sequence[Sequence[float | None]]) -> list[str]:
    told = []
    for place, column in enumerate(zip(*values, strict=True)):
        known = [value for value in column if value is not None]
        if len(known) < len(column):
            told.append("")
        else:
            mean = float(np.mean(known))
            told.append(f"{mean:.3f}" if place in (3, 7, 8) else f"{100 * mean:.1f}")
    return told


def answers_content(
    study: Study,
    rows: Sequence[Summary],
    answers: Answers,
    contrasts: Contrasts,
    data: DataRecord | None,
) -> dict[str, Any]:
    """The parts of the report that are about single images; empty where no answers are kept."""
    images = compare_images(rows, answers, study)
    classes = data.classes if data else []
    sheets, plots, contacts = [], [], []
    for best in best_variants(rows, study, answers):
        pair = {name: list(answers[best.backbone, name].values()) for name in best.names}
        count = pair[best.plain][0].classes
        names = classes if len(classes) == count else [str(i) for i in range(count)]
        sheets += _class_lines(best.backbone, best.plain, best.variant, pair, names)
        plots += [
            (best.backbone, name, _confusion_plot(best.backbone, name, pair[name], names))
            for name in best.names
            if count <= DRAWN
        ]
        found = images[best.backbone, best.variant, best.plain]
        contacts += _contact_sheets(best.backbone, best.names, pair, found, contrasts, names)
    return {
        "images": _image_sheet(rows, images),
        "classes": Sheet.of(("class", "variant", "images", "plain %", "variant %", "more"), sheets),
        "confusion": plots,
        "contrasts": contacts,
    }


def _image_sheet(rows: Sequence[Summary], images: Mapping[tuple[str, str, str], Images]) -> Sheet:
    lines = []
    for row, difference in comparisons(rows):
        found = images.get((row.backbone, row.variant, difference.baseline))
        if found is not None:
            against = "its control" if difference is row.beyond else difference.baseline
            interval = interval_text(found.low, found.high, "+")
            points = f"{100 * found.mean:+.1f} {interval}".rstrip()
            alone = f"{found.gained} / {found.lost}"
            cells = (row.variant, against, points, alone, small_p(found.p), str(found.seeds))
            lines.append((row.backbone, cells))
    headings = ("variant", "against", "points, seeds × images", "right alone", "McNemar", "seeds")
    return Sheet.of(headings, lines)


def _class_lines(
    backbone: str,
    plain: str,
    variant: str,
    pair: Mapping[str, Sequence[Predictions]],
    names: Sequence[str],
) -> list[tuple[str, tuple[str, ...]]]:
    """A line a class; of many, those that gain and lose most."""
    theirs, ours = (_confusions(pair[name]) for name in (plain, variant))
    counts = theirs.sum(1)
    there = np.flatnonzero((counts > 0) & (ours.sum(1) > 0))
    before, after = (100 * m.diagonal()[there] / m.sum(1)[there] for m in (theirs, ours))
    gain = after - before
    shown = np.arange(len(there))
    if len(there) > LISTED:
        order = np.argsort(-gain, kind="stable")
        shown = np.concatenate([order[: LISTED // 2], order[-LISTED // 2 :]])
    return [
        (
            backbone,
            (
                names[there[i]],
                variant,
                str(round(counts[there[i]] / len(pair[plain]))),
                f"{before[i]:.1f}",
                f"{after[i]:.1f}",
                f"{gain[i]:+.1f}",
            ),
        )
        for i in shown
    ]


def _confusions(found: Sequence[Predictions]) -> NDArray[np.int64]:
    return np.sum([confusion(one) for one in found], axis=0)


def _confusion_plot(
    backbone: str, variant: str, found: Sequence[Predictions], names: Sequence[str]
) -> str:
    """Shares of each class's images, in percent; a cell in full colour is all of them."""
    counts = _confusions(found)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = len(names)
    figure, axes = new_figure(3.4, 3.4, left=0.75, top=0.3)
    rows, columns = np.nonzero(shares >= 0.5)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    cells = np.stack([columns, rows], 1)[:, None] + corners
    colours = np.where((rows == columns)[:, None], RIGHT, WRONG)
    strength = 0.15 + 0.85 * shares[rows, columns] / 100
    drawn = require("matplotlib.collections", "matplotlib").PolyCollection(
        cells, facecolors=np.column_stack([colours, strength]), linewidths=0
    )
    axes.add_collection(drawn, autolim=False)
    if side <= WRITTEN:
        for row, column in zip(rows, columns, strict=True):
            share = f"{shares[row, column]:.0f}"
            axes.text(column, row, share, ha="center", va="center", color=INK, fontsize=7)
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
    shown = range(0, side, max(1, -(-side // 15)))
    labels = [names[i] if len(names[i]) <= 9 else f"{names[i][:8]}…" for i in shown]
    axes.set_xticks(list(shown), labels, rotation=0 if side <= WRITTEN else 90, fontsize=7)
    axes.set_yticks(list(shown), labels, fontsize=7)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.set_xlabel("what is answered")
    axes.set_title(shortened(variant), color=INK, fontsize=9, loc="left", fontweight="bold")
    return svg(figure, f"confusion-{variant}-{backbone}")


def _contact_sheets(
    backbone: str,
    pair: tuple[str, str],
    answers: Mapping[str, Sequence[Predictions]],
    found: Images,
    contrasts: Contrasts,
    names: Sequence[str],
) -> list[ContactSheet]:
    plain, variant = pair
    sheets = []
    for right, wrong, places in (
        (variant, plain, found.always),
        (plain, variant, found.never),
    ):
        cells = []
        for place in places:
            if place in contrasts.pictures:
                label, taken = _told(answers[wrong], place)
                cells.append(Cell(contrasts.pictures[place], names[label], names[taken]))
        if places:
            sheets.append(ContactSheet(backbone, right, wrong, len(places), tuple(cells)))
    return sheets


def _told(found: Sequence[Predictions], place: int) -> tuple[int, int]:
    """The class of an image, and what it is mostly taken for."""
    at = [
        (one, int(np.flatnonzero(one.images == place)[0])) for one in found if place in one.images
    ]
    answers = Counter(int(one.predicted[i]) for one, i in at)
    return int(at[0][0].labels[at[0][1]]), answers.most_common(1)[0][0]
