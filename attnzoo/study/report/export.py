"""What a study found in files for others: a paper, a spreadsheet, a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnzoo.files import check_kind
from attnzoo.study.definition import Study
from attnzoo.study.numbers import Costs, Summary, read_costs
from attnzoo.study.report.beginnings import beginnings
from attnzoo.study.report.drawing import kept_figures, pdf, standalone
from attnzoo.study.report.latex import latex_table
from attnzoo.study.report.report import content_of, safe_name
from attnzoo.study.report.sentences import sentences
from attnzoo.study.report.table import comparisons, study_summaries
from attnzoo.study.runs import Record, read_data, read_folder, write_atomically

__all__ = ["export_study"]

COSTS = ("latency_ms", "slowdown", "images_per_second", "saved_bytes", "peak_bytes")


def export_study(
    folder: str | Path,
    *,
    latex: str | Path | None = None,
    csv: str | Path | None = None,
    json: str | Path | None = None,
    figures: str | Path | None = None,
) -> list[Path]:
    """Write what a study found into files of one's choice. Its folder stays as it is.

    Args:
        folder: of the study.
        latex: a file for a table with booktabs' rules: mean ± standard deviation, bold where the
            verdict is *better*, a dagger at controls.
        csv: a file for a row a variant, in numbers: accuracies as shares, ms, bytes.
        json: a file for the same, every comparison, and a sentence for each.
        figures: a folder for every plot of the report as PDF and as SVG.

    Returns:
        What was written.

    Raises:
        StudyError: no study is in `folder`.
        OptionError: a file is there that is of another kind than what would be written over it.
    """
    for path, suffix in ((latex, ".tex"), (csv, ".csv"), (json, ".json")):
        if path is not None:
            check_kind(Path(path), suffix)
    study, records = read_folder(folder)
    rows, costs = study_summaries(study, records), read_costs(folder)
    written = []
    for path, text in (
        (latex, lambda: latex_table(study, rows, costs)),
        (csv, lambda: variants_csv(study, rows, costs)),
        (json, lambda: study_json(study, rows, costs, _began(folder, records))),
    ):
        if path is not None:
            path = Path(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text())
            written.append(path)
    if figures is not None:
        written += _write_figures(Path(folder), Path(figures))
    return written


def variants_csv(study: Study, rows: Sequence[Summary], costs: Costs | None) -> str:
    """One row a backbone and variant, with what it is over plain; numbers in full precision."""
    told = [_variant(study, row, costs) for row in rows]
    columns = list(dict.fromkeys(key for entry in told for key in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(told)
    return text.getvalue()


def study_json(
    study: Study, rows: Sequence[Summary], costs: Costs | None, began: Sequence[str] = ()
) -> str:
    """The study's settings, variants and comparisons, and what its networks began with."""
    content = {
        "study": study.name,
        "question": study.question,
        "settled": {
            "metric": study.metric,
            "correction": study.correction,
            "difference_points": study.difference_points,
            "same_within": study.same_within,
            "seeds": list(study.seeds),
        },
        "variants": [_variant(study, row, costs) for row in rows],
        "comparisons": [
            {"backbone": row.backbone, "variant": row.variant, **asdict(found)}
            for row, found in comparisons(rows)
        ],
        "sentences": [text for _, text in sentences(study, rows, costs)],
        "beginnings": began,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _began(folder: str | Path, records: Sequence[Record]) -> list[str]:
    data = read_data(Path(folder))
    return beginnings(records, len(data.classes) if data else None)


def _variant(study: Study, row: Summary, costs: Costs | None) -> dict[str, Any]:
    content = asdict(row)
    measured = costs.of(row.backbone, row.variant) if costs else None
    prices = (
        (None,) * len(COSTS)
        if measured is None
        else (
            measured.latency.median,
            measured.slowdown.median,
            measured.images_per_second.median,
            measured.saved_bytes,
            measured.peak_bytes,
        )
    )
    over = {}
    for name, found in (("plain", row.difference), ("control", row.beyond)):
        for key in ("mean", "low", "high", "p_corrected", "p_same_corrected", "verdict"):
            over[f"vs_{name}_{key}"] = None if found is None else getattr(found, key)
    return {
        "backbone": content.pop("backbone"),
        "variant": content.pop("variant"),
        "control": row.variant in study.control_titles,
        "metric": study.metric,
        **{key: value for key, value in content.items() if key not in ("difference", "beyond")},
        **over,
        **dict(zip(COSTS, prices, strict=True)),
    }


def _write_figures(folder: Path, out: Path) -> list[Path]:
    """Every plot of the report, as PDF and as SVG on white paper."""
    with kept_figures() as kept:
        content_of(folder)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (figure, drawn) in kept.items():
        path = out / f"{safe_name(name)}.svg"
        write_atomically(path, standalone(drawn))
        written.append(path)
        path = path.with_suffix(".pdf")
        pdf(figure, path)
        written.append(path)
    return written
