"""`report.md`: the study in plain text, to be pasted into an issue or kept beside a paper."""

from __future__ import annotations

from collections.abc import Sequence

from attnzoo.study.folder import DataRecord, Record
from attnzoo.study.grid import Study, study_yaml
from attnzoo.study.stats import Summary
from attnzoo.study.table import (
    accuracy_text,
    difference_text,
    interval_text,
    more_seeds_text,
    p_text,
    points_text,
    verdict_text,
)
from attnzoo.study.wording import caveats, verdicts

__all__ = ["report_markdown"]

COLUMNS = (
    *("backbone", "variant", "seeds", "top-1 %", "95% interval", "vs plain", "p (Holm)", "verdict"),
    *("more seeds", "vs control", "verdict", "parameters", "MMACs"),
)


def report_markdown(
    study: Study, records: Sequence[Record], rows: Sequence[Summary], data: DataRecord | None
) -> str:
    """The question, the table, the verdicts, and how to run it again."""
    parts = [f"# {study.name}"]
    if study.question:
        parts.append(study.question)
    parts.append(f"{len(records)} of {len(study.runs)} runs are done.")
    parts += [f"> {text}" for text in caveats(study, rows, data, done=len(records))]
    if rows:
        parts += ["## Results", _table(rows)]
        parts.append(
            "top-1: mean ± standard deviation over seeds, and the 95% interval of the mean. "
            "Differences are in percentage points. More seeds: how many it would take to see a "
            f"difference of {points_text(study.difference_points)} with 80% chance."
        )
    told = verdicts(study, rows)
    if told:
        parts += ["## Verdicts", "\n".join(f"- **{verdict}**: {text}" for verdict, text in told)]
    stopped = [record.result for record in records if record.result.status == "diverged"]
    if stopped:
        parts.append("Diverged:")
        parts.append(
            "\n".join(f"- {r.backbone}, {r.variant}, seed {r.seed}: {r.message}" for r in stopped)
        )
    seeds = ", ".join(map(str, study.seeds))
    parts += [
        "## How to run it again",
        f"Save this as `{study.name}.yaml`:",
        f"```yaml\n{study_yaml(study)}```",
        f"```console\n$ attnzoo ablate '{study.name}.yaml'\n```",
        f"Seeds: {seeds}.{_versions(records)}",
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Summary]) -> str:
    cells = [_cells(row) for row in rows]
    shown = [i for i in range(len(COLUMNS)) if any(line[i] for line in cells)]
    lines = [[COLUMNS[i] for i in shown], ["---"] * len(shown)]
    lines += [[line[i].replace("|", "\\|") for i in shown] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Summary) -> list[str]:
    difference, beyond = row.difference, row.beyond
    return [
        row.backbone,
        row.variant,
        str(row.seeds) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
        accuracy_text(row),
        interval_text(row.low, row.high),
        "" if row.plain else difference_text(difference),
        p_text(difference),
        verdict_text(difference),
        more_seeds_text(difference),
        difference_text(beyond) if beyond else "",
        verdict_text(beyond),
        f"{row.parameters / 1e6:.2f} M",
        f"{row.macs / 1e6:.1f}",
    ]


def _versions(records: Sequence[Record]) -> str:
    if not records:
        return ""
    used = ", ".join(f"{name} {version}" for name, version in records[0].result.versions.items())
    devices = "; ".join(sorted({record.result.device for record in records}))
    return f" Versions: {used}. Ran on: {devices}."
