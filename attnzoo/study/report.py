"""The report: CSV tables, `report.md`, and a `report.html` that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from attnzoo.study import plots
from attnzoo.study.folder import DataRecord, Record, read_data, read_folder, write_atomically
from attnzoo.study.grid import Study, study_yaml
from attnzoo.study.markdown import report_markdown
from attnzoo.study.stats import Difference, Summary
from attnzoo.study.table import (
    accuracy_text,
    added_text,
    comparisons,
    comparisons_csv,
    difference_text,
    interval_text,
    more_seeds_text,
    p_text,
    points_text,
    results_csv,
    results_table,
    study_rows,
    verdict_text,
)
from attnzoo.study.wording import caveats
from attnzoo.train.extras import require

__all__ = ["study_table", "write_report", "write_results"]


def study_table(folder: str | Path) -> Table:
    """The study's table for a terminal; print it with rich.

    Raises:
        StudyError: no study is in `folder`.
    """
    study, records = read_folder(folder)
    return results_table(study, records)


def write_results(folder: str | Path) -> Path:
    """Write `results.csv`, one row a finished run, and return its path.

    Raises:
        StudyError: no study is in `folder`.
    """
    path = Path(folder) / "results.csv"
    write_atomically(path, results_csv(read_folder(folder)[1]))
    return path


def write_report(folder: str | Path) -> Path:
    """Write the report from what is in a study's folder, finished or not.

    That is `report.html` and `report.md`, `results.csv` with a row a run, and `comparisons.csv`
    with a row a comparison.

    Returns:
        The path of `report.html`.

    Raises:
        StudyError: no study is in `folder`.
        MissingExtraError: matplotlib or another package of the extra `study` is missing.
    """
    folder = Path(folder)
    write_results(folder)
    study, records = read_folder(folder)
    data = read_data(folder)
    rows = study_rows(study, records)
    write_atomically(folder / "comparisons.csv", comparisons_csv(rows))
    write_atomically(folder / "report.md", report_markdown(study, records, rows, data))
    jinja = require("jinja2", "Jinja")
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(source).render(_content(study, records, rows, data))
    path = folder / "report.html"
    write_atomically(path, page)
    return path


def _content(
    study: Study, records: Sequence[Record], rows: Sequence[Summary], data: DataRecord | None
) -> dict[str, Any]:
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    chance = 1 / len(data.classes) if data else None
    finished = [r for r in records if r.result.status == "finished"]
    return {
        "study": study,
        "records": records,
        "groups": [
            (backbone, [_row(row) for row in rows if row.backbone == backbone])
            for backbone in backbones
        ],
        "sizes": {b.name: study.data_of(b).size for b in study.backbones},
        "planned": len(study.runs),
        "wording": caveats(study, rows, data, done=len(records)),
        "size": points_text(study.difference_points),
        "comparisons": _comparisons(rows),
        "data": data,
        "colours": plots.variant_colours(records),
        "accuracy": plots.accuracy_plot(records, chance) if finished else "",
        "curves": [plots.learning_curves(records, name) for name in backbones if finished],
        "cost": plots.cost_plot(records) if finished else "",
        "diverged": [r for r in records if r.result.status == "diverged"],
        "minutes": sum(r.result.seconds for r in records) / 60,
        "devices": sorted({r.result.device for r in records}),
        "versions": records[0].result.versions if records else {},
        "content": study_yaml(study),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _row(row: Summary) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "plain": row.plain,
        "seeds": row.seeds,
        "diverged": row.diverged,
        "top1": accuracy_text(row),
        "interval": interval_text(row.low, row.high),
        "difference": "" if row.plain else difference_text(row.difference),
        "verdict": verdict_text(row.difference),
        "sites": row.sites or "",
        "places": row.places,
        "parameters": f"{row.parameters / 1e6:.2f} M",
        "added_parameters": added_text(row, row.added_parameters, row.parameters),
        "macs": f"{row.macs / 1e6:.1f} M",
        "added_macs": added_text(row, row.added_macs, row.macs),
        "gamma": "" if row.gamma is None else f"{row.gamma:.3f}",
        "seconds": f"{row.seconds:.0f}",
    }


def _comparisons(rows: Sequence[Summary]) -> dict[str, list[dict[str, Any]]]:
    """Backbone → its comparisons that have a verdict."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row, difference in comparisons(rows):
        if difference.verdict:
            found.setdefault(row.backbone, []).append(_comparison(row, difference))
    return found


def _comparison(row: Summary, difference: Difference) -> dict[str, Any]:
    return {
        "variant": row.variant,
        "baseline": difference.baseline,
        "pairs": difference.seeds,
        "difference": difference_text(difference),
        "p": f"{difference.p:.2g}",
        "permutation": f"{difference.p_permutation:.2g}",
        "holm": p_text(difference),
        "verdict": difference.verdict,
        "more_seeds": more_seeds_text(difference),
    }
