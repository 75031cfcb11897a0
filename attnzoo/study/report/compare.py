"""A page on which several studies stand side by side, and together where they ran alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from attnzoo.errors import StudyError
from attnzoo.study.numbers import METRICS, fronts
from attnzoo.study.report import plots
from attnzoo.study.report.looks import variant_looks
from attnzoo.study.report.markdown import comparison_markdown
from attnzoo.study.report.pooling import Entry, Pool, pool, read_studies, setting_differences
from attnzoo.study.report.provenance import provenance
from attnzoo.study.report.report import render, write_figures
from attnzoo.study.report.sheets import (
    COSTS,
    Sheet,
    cost_cells,
    result_cells,
    result_headings,
    result_sheet,
    verdict_sheet,
)
from attnzoo.study.report.table import comparisons, comparisons_csv
from attnzoo.study.report.wording import comparison_notes, pooling_notes
from attnzoo.study.runs import STUDY, check_folder, take, write_atomically

__all__ = ["write_comparison"]

FILES = ("comparisons.csv", "report.md", "report.html")


def write_comparison(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write a page that compares studies, from what is in their folders.

    Every study keeps its own numbers and verdicts. What several of them have in common, backbone,
    variant and all settings but the seed, is pooled and judged anew; what differs is named.
    Written are `report.html`, the same as `report.md` with its pictures in `figures`, and
    `comparisons.csv` of what was pooled.

    Args:
        folders: two or more, each written by `attnzoo ablate`.
        out: the folder to write to.

    Returns:
        The path of `report.html`.

    Raises:
        StudyError: fewer than two studies; one is missing or has no finished run; they are not
            about the same test images; or `out` is the folder of a study, or holds files by these
            names that are not of an earlier comparison.
    """
    out = Path(out)
    if len(folders) < 2:
        raise StudyError("a comparison takes two studies or more.")
    if (out / STUDY).exists():
        raise StudyError(
            f"{str(out)!r} is the folder of a study, whose report would be lost. "
            f"Choose another folder."
        )
    check_folder(out, FILES)
    entries = read_studies(folders)
    pooled = pool(entries)
    content = _content(entries, pooled)
    take(out, FILES)
    shown = {name: content[name] for name in ("effects", "side_by_side") if content[name]}
    figures = write_figures(out, shown)
    write_atomically(out / "comparisons.csv", comparisons_csv(pooled.rows))
    write_atomically(out / "report.md", comparison_markdown(content, figures))
    path = out / "report.html"
    write_atomically(path, render("compare.html.j2", content))
    return path


def _content(entries: Sequence[Entry], pooled: Pool) -> dict[str, Any]:
    records = [record for entry in entries for record in entry.records]
    looks = variant_looks(records)
    labels = [entry.label for entry in entries]
    measure = METRICS[entries[0].study.metric]
    differing = setting_differences(entries)
    # A plot tells rows apart by their variant: here each needs its study's name as well.
    named = [
        (entry, row, replace(row, variant=f"{row.variant} · {entry.label}", beyond=None))
        for entry, row in _ordered(entries)
    ]
    named_looks = {alias.variant: looks[row.variant] for _, row, alias in named}
    named_records = [
        replace(
            record,
            result=record.result.model_copy(
                update={"variant": f"{record.result.variant} · {entry.label}"}
            ),
        )
        for entry in entries
        for record in entry.records
    ]
    aliases = [
        alias
        if alias.difference is None
        else replace(
            alias,
            difference=replace(
                alias.difference, baseline=f"{alias.difference.baseline} · {entry.label}"
            ),
        )
        for entry, _, alias in named
    ]
    marks = {entry.label: fronts(entry.rows, entry.costs, measure.sign) for entry in entries}
    return {
        "entries": entries,
        "labels": labels,
        "looks": looks,
        "notes": comparison_notes(entries),
        "settings": Sheet.of(
            ("setting", *labels), (("", (name, *values)) for name, values in differing)
        ),
        "results": Sheet.of(
            ("variant", "study", *result_headings(measure)),
            (
                (row.backbone, (row.variant, entry.label, *result_cells(row, measure)))
                for entry, row in _ordered(entries)
            ),
        ),
        "costs": Sheet.of(
            ("variant", "study", *COSTS),
            (
                (
                    row.backbone,
                    (row.variant, entry.label, *cost_cells(row, entry.costs, marks[entry.label])),
                )
                for entry, row in _ordered(entries)
            ),
        ),
        "side_by_side": (
            plots.effect_plot(aliases, named_records, named_looks, measure)
            if comparisons(aliases)
            else ""
        ),
        "pooled": result_sheet(pooled.rows, measure),
        "verdicts": verdict_sheet(pooled.rows),
        "effects": (
            plots.effect_plot(pooled.rows, pooled.records, looks, measure)
            if comparisons(pooled.rows)
            else ""
        ),
        "pooling_notes": pooling_notes(pooled),
        "apart": pooled.apart,
        "repeated": pooled.repeated,
        "again": [(entry.label, provenance(entry.study, entry.records)) for entry in entries],
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _ordered(entries: Sequence[Entry]) -> list[tuple[Entry, Any]]:
    """Every row of every study; backbones together, and in them variants."""
    backbones = list(dict.fromkeys(row.backbone for e in entries for row in e.rows))
    variants = list(dict.fromkeys(row.variant for e in entries for row in e.rows))
    pairs = [(entry, row) for entry in entries for row in entry.rows]
    return sorted(
        pairs, key=lambda pair: (backbones.index(pair[1].backbone), variants.index(pair[1].variant))
    )
