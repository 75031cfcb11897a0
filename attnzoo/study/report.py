"""The report: `results.csv` and a `report.html` that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from attnzoo.study import plots
from attnzoo.study.folder import DataRecord, Record, read_data, read_folder, write_atomically
from attnzoo.study.grid import Study, study_yaml
from attnzoo.study.stats import Summary, sampling_error, summarise
from attnzoo.study.table import (
    accuracy_text,
    added_text,
    difference_text,
    results_csv,
    results_table,
)
from attnzoo.train.extras import require

__all__ = ["study_table", "write_report", "write_results"]


def study_table(folder: str | Path) -> Table:
    """The study's table for a terminal; print it with rich.

    Raises:
        StudyError: no study is in `folder`.
    """
    study, records = read_folder(folder)
    return results_table(records, study.name)


def write_results(folder: str | Path) -> Path:
    """Write `results.csv`, one row a finished run, and return its path.

    Raises:
        StudyError: no study is in `folder`.
    """
    path = Path(folder) / "results.csv"
    write_atomically(path, results_csv(read_folder(folder)[1]))
    return path


def write_report(folder: str | Path) -> Path:
    """Write `results.csv` and `report.html` from what is in a study's folder, finished or not.

    Returns:
        The path of the report.

    Raises:
        StudyError: no study is in `folder`.
        MissingExtraError: matplotlib or another package of the extra `study` is missing.
    """
    folder = Path(folder)
    write_results(folder)
    study, records = read_folder(folder)
    data = read_data(folder)
    jinja = require("jinja2", "Jinja")
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(source).render(_content(study, records, data))
    path = folder / "report.html"
    write_atomically(path, page)
    return path


def _content(study: Study, records: Sequence[Record], data: DataRecord | None) -> dict[str, Any]:
    rows = summarise(record.result for record in records)
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
        "wording": _wording(study, rows, data),
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
        "difference": "" if row.plain else difference_text(row.difference),
        "sites": row.sites or "",
        "places": row.places,
        "parameters": f"{row.parameters / 1e6:.2f} M",
        "added_parameters": added_text(row, row.added_parameters, row.parameters),
        "macs": f"{row.macs / 1e6:.1f} M",
        "added_macs": added_text(row, row.added_macs, row.macs),
        "gamma": "" if row.gamma is None else f"{row.gamma:.3f}",
        "seconds": f"{row.seconds:.0f}",
    }


def _wording(study: Study, rows: Sequence[Summary], data: DataRecord | None) -> list[str]:
    """What the numbers allow to say, and what they do not."""
    said = []
    shown = [row.top1 for row in rows if row.top1 is not None]
    if len(study.seeds) == 1:
        said.append(
            "One seed a variant: this shows that the networks learn, and roughly how well. It is "
            "no verdict on which attention is better: another seed may turn the order round. "
            "Write several seeds into the study, such as seeds: [0, 1, 2, 3, 4], for differences "
            "with an interval."
        )
    else:
        said.append(
            "Differences are paired: at one seed all variants of a backbone start from the same "
            "weights and see the same batches. The bracket is the 95% interval of the mean "
            "difference by Student's t; where it holds 0, the study shows no difference."
        )
    if data and shown:
        worst = max(sampling_error(top1, data.test) for top1 in shown)
        said.append(
            f"There are {data.test} test images, so each accuracy is uncertain by about "
            f"±{200 * worst:.1f} points (two standard errors) from that alone."
        )
    return said
