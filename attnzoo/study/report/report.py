"""The report: CSV tables, `report.md` with its figures, and a `report.html` that needs nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.study.numbers import (
    COST_UNITS,
    METRICS,
    Contrasts,
    Costs,
    Summary,
    fronts,
    needed_runs,
    read_answers,
    read_contrasts,
    read_costs,
    study_summaries,
)
from attnzoo.study.report import plots
from attnzoo.study.report.across import across, across_sheet, across_words
from attnzoo.study.report.across_plots import profile_plots, rank_plot
from attnzoo.study.report.answers import answers_content, measure_sheet
from attnzoo.study.report.beginnings import beginnings
from attnzoo.study.report.captions import captions, cost_notes
from attnzoo.study.report.drawing import standalone
from attnzoo.study.report.looks import glyph, variant_looks
from attnzoo.study.report.markdown import report_markdown
from attnzoo.study.report.overlays import map_groups, sample_strip, side_by_side, strip
from attnzoo.study.report.provenance import provenance
from attnzoo.study.report.sentences import sentences
from attnzoo.study.report.sheets import LEAST, cost_sheet, result_sheet, verdict_sheet
from attnzoo.study.report.table import (
    comparisons,
    comparisons_csv,
    results_csv,
    results_table,
)
from attnzoo.study.report.wording import capacity, caveats, failure_notes
from attnzoo.study.runs import (
    FIGURES,
    DataRecord,
    Record,
    damages,
    read_data,
    read_failures,
    read_folder,
    remove,
    take,
    write_atomically,
    written,
)
from attnzoo.train import require

__all__ = [
    "content_of",
    "render",
    "safe_name",
    "study_table",
    "write_figures",
    "write_report",
    "write_results",
]

FILES = ("results.csv", "comparisons.csv", "report.md", "report.html")
LONGEST = 200  # letters of a figure's name: file systems take 255 bytes


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

    That is `report.html`; the same as `report.md` with its pictures in `figures`; `results.csv`
    with a row a run, and `comparisons.csv` with a row a comparison.

    Returns:
        The path of `report.html`.

    Raises:
        StudyError: no study is in `folder`.
        MissingExtraError: matplotlib or another package of the extra `study` is missing.
    """
    folder = Path(folder)
    take(folder, FILES)
    write_results(folder)
    content = content_of(folder)
    write_atomically(folder / "comparisons.csv", comparisons_csv(content["rows"]))
    figures = write_figures(folder, _figures(content))
    write_atomically(folder / "report.md", report_markdown(content, figures))
    path = folder / "report.html"
    write_atomically(path, render("report.html.j2", content))
    return path


def content_of(folder: Path) -> dict[str, Any]:
    """All that the report of a study shows; what is damaged is left out, and said."""
    study, records = read_folder(folder)
    said = damages(folder, study, records)
    data, costs = _read(read_data, folder, said), _read(read_costs, folder, said)
    rows = study_summaries(study, records)
    content = _content(study, records, rows, data, costs)
    pictures = _read(read_contrasts, folder, said) or Contrasts(pictures={})
    content |= answers_content(study, rows, read_answers(records), pictures, data)
    failures = read_failures(folder, study.runs)
    content["stopped"] = [*content["stopped"], *failure_notes(failures.values()), *said]
    return content


def render(template: str, content: Mapping[str, Any]) -> str:
    """A page from one of the templates beside this file."""
    jinja = require("jinja2", "Jinja")
    environment = jinja.Environment(
        loader=jinja.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja.ChainableUndefined,
    )
    environment.filters["glyph"] = glyph
    environment.globals["least"] = LEAST
    return environment.get_template(template).render(content)


def write_figures(folder: Path, figures: Mapping[str, str | bytes]) -> dict[str, str]:
    """Write figures as files, and remove those that an earlier report wrote and this one has not.

    Args:
        folder: of the study; they go to `figures` in it.
        figures: name → an SVG element of a page, or JPEG bytes.

    Returns:
        Name → path relative to the folder.
    """
    paths, contents = {}, {}
    for name, figure in figures.items():
        jpeg = isinstance(figure, bytes)
        paths[name] = f"{FIGURES}/{safe_name(name)[:LONGEST]}{'.jpg' if jpeg else '.svg'}"
        contents[paths[name]] = figure if jpeg else standalone(figure)
    take(folder, contents)
    (folder / FIGURES).mkdir(exist_ok=True)
    for path, content in contents.items():
        write_atomically(folder / path, content)
    former = {name for name in written(folder) if name.startswith(f"{FIGURES}/")}
    remove(folder, former - contents.keys())
    return paths


def _read(read: Callable[[Path], Any], folder: Path, said: list[str]) -> Any:
    """What `read` finds; what is damaged is left out, and said."""
    try:
        return read(folder)
    except StudyError as error:
        said.append(str(error))
        return None


def _size(record: Record) -> int | None:
    """Side of a run's images in pixels."""
    return record.spec.data.size or record.result.input.get("size")


def safe_name(name: str) -> str:
    """A figure's name as that of a file."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _content(
    study: Study,
    records: Sequence[Record],
    rows: Sequence[Summary],
    data: DataRecord | None,
    costs: Costs | None,
) -> dict[str, Any]:
    """All that the report shows, for the page and for Markdown."""
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    finished = any(r.result.status == "finished" for r in records)
    trained = backbones if finished else []
    looks, measure = variant_looks(records), METRICS[study.metric]
    chance = (data.chance or 1 / len(data.classes)) if data else None
    marks = fronts(rows, costs, measure.sign)
    planned = len(needed_runs(study, (record.result for record in records)))
    over = across(rows, records, measure)
    pareto = [
        (name, [plots.pareto_plot(rows, name, cost, costs, looks, measure) for cost in COST_UNITS])
        for name in trained
    ]
    sizes = {record.result.backbone: _size(record) for record in records}
    stopped = [r.result for r in records if r.result.status == "diverged"]
    return {
        "study": study,
        "records": records,
        "rows": rows,
        "planned": planned,
        "minutes": sum(r.result.seconds for r in records) / 60,
        "wording": caveats(study, rows, data, done=len(records), planned=planned),
        "stopped": [
            f"{r.backbone}, {r.variant}, seed {r.seed} stopped: {r.message}" for r in stopped
        ],
        "words": captions(study, data),
        "looks": looks,
        "sizes": {name: f"{size}×{size} pixels" for name, size in sizes.items()},
        "results": result_sheet(rows, measure),
        "verdicts": verdict_sheet(rows, study.correction),
        "measures": measure_sheet(rows, records),
        "sentences": sentences(study, rows, costs),
        "beginnings": beginnings(records, len(data.classes) if data else None),
        "costs": cost_sheet(rows, costs, marks),
        "measured": _measured_where(costs),
        "cost_notes": cost_notes(costs, backbones),
        "capacity": capacity(study, rows),
        "effects": plots.effect_plot(rows, records, looks, measure) if comparisons(rows) else "",
        "accuracy": plots.accuracy_plot(rows, records, looks, chance, measure) if finished else "",
        "pareto": [(name, [plot for plot in shown if plot]) for name, shown in pareto],
        "overview": plots.cost_plot(rows, looks, measure) if len(trained) > 1 else "",
        "across": across_sheet(over) if over else None,
        "across_words": across_words(over) if over else [],
        "ranks": rank_plot(over, looks) if over else "",
        "profiles": profile_plots(over, looks) if over else [],
        "curves": [plots.learning_curves(records, name, looks) for name in trained],
        "maps": map_groups(records, data),
        "data": data,
        "again": provenance(study, records),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _measured_where(costs: Costs | None) -> dict[str, str]:
    """Backbone → where and when it was measured."""
    return {
        entry.backbone: (
            f"{entry.device}, {entry.rounds[0]} turns, and {entry.rounds[1]} of batches of "
            f"{entry.batch_size}, {entry.measured}"
        )
        for entry in (costs.backbones if costs else ())
        if entry.variants
    }


def _figures(content: Mapping[str, Any]) -> dict[str, str | bytes]:
    """Name → what `report.md` shows as a file."""
    found: dict[str, str | bytes] = {name: content[name] for name in ("effects", "accuracy")}
    for backbone, shown in content["pareto"]:
        found |= {f"pareto-{i + 1}-{backbone}": plot for i, plot in enumerate(shown)}
    found["overview"] = content["overview"]
    found["ranks"] = content["ranks"]
    found |= {f"profiles-{i + 1}": plot for i, plot in enumerate(content["profiles"])}
    backbones = [backbone for backbone, _ in content["pareto"]]
    found |= {f"curves-{b}": plot for b, plot in zip(backbones, content["curves"], strict=True)}
    for group in content["maps"]:
        for i, row in enumerate(group.rows):
            found[f"maps-{i + 1}-{group.backbone}"] = strip(row)
    found |= {f"confusion-{v}-{b}": plot for b, v, plot in content["confusion"]}
    for i, sheet in enumerate(content["contrasts"]):
        found[f"contrasts-{i + 1}-{sheet.backbone}"] = side_by_side(
            [base64.b64decode(cell.picture) for cell in sheet.cells]
        )
    if content["data"]:
        found["data"] = sample_strip(content["data"])
    return {name: figure for name, figure in found.items() if figure}
