"""Single runs, as `attnzoo train` leaves them, side by side: what differs, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.errors import StudyError
from attnzoo.study.report.table import results_csv
from attnzoo.study.runs import STUDY, Record, read_run, write_atomically
from attnzoo.train import RESULT, SPEC, RunSpec

__all__ = ["SideBySide", "runs_in", "side_by_side", "write_runs"]

LEFT_OUT = (
    *("digests", "strict", "keep"),
    *("data.root", "data.workers", "data.check", "train.loggers"),
)
"""What says where a run is, or what is kept of it, and not what was run."""


@dataclass(frozen=True)
class SideBySide:
    """Runs, and what there is to know before their numbers are compared.

    Attributes:
        records: the runs.
        settings: `(setting, its value in each run)`, for those that are not the same in all.
        notes: what the numbers allow to say.
    """

    records: tuple[Record, ...]
    settings: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def runs_in(paths: Iterable[str | Path]) -> list[Record]:
    """The finished runs in folders, each that of a run or one that holds several; no studies.

    Raises:
        StudyError: a folder holds no finished run, or one that is damaged.
    """
    found: dict[Path, Record] = {}
    for path in map(Path, paths):
        inside = sorted(place.parent for place in path.glob(f"*/{RESULT}"))
        for folder in [path] if (path / RESULT).is_file() else inside:
            found.setdefault(folder.resolve(), _read(folder))
        if not (path / RESULT).is_file() and not inside:
            studies = sorted(str(place.parent) for place in path.glob(f"*/{STUDY}"))
            hint = f" It holds studies: {', '.join(studies[:4])}." if studies else ""
            raise StudyError(
                f"{str(path)!r} holds no study ({STUDY} is missing) and no finished run. Give the "
                f"folder that `attnzoo ablate` or `attnzoo train` wrote.{hint}"
            )
    return list(found.values())


def _read(folder: Path) -> Record:
    try:
        spec = RunSpec.model_validate_json((folder / SPEC).read_text(encoding="utf-8"))
        record = read_run(folder, spec)
    except (OSError, ValueError):
        record = None
    if record is None:
        raise StudyError(f"the run in {str(folder)!r} is damaged.")
    return record


def side_by_side(records: Sequence[Record]) -> SideBySide:
    """What differs between runs, and what to beware of."""
    told = [_settings(_asked(record.spec)) for record in records]
    names = dict.fromkeys(name for settings in told for name in settings)
    settings = tuple(
        (name, values)
        for name in names
        if len(set(values := tuple(settings.get(name, "–") for settings in told))) > 1
    )
    return SideBySide(tuple(records), settings, tuple(_notes(records, dict(settings))))


def write_runs(records: Sequence[Record], path: Path) -> None:
    """Write a row a run, in numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, results_csv(records))


def _asked(spec: RunSpec) -> dict[str, Any]:
    """The run's settings; of a plain network no block, which it has by default alone."""
    asked = spec.model_dump(mode="json")
    return asked if spec.variant.policy is not None else {**asked, "variant": {"name": "plain"}}


def _settings(value: Any, name: str = "") -> dict[str, str]:
    """Every setting by its path, as text."""
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _settings(inner, f"{name}.{key}".strip("."))
        return found
    if name.startswith(LEFT_OUT):
        return {}
    return {name: "–" if value in (None, "", {}, []) else str(value)}


def _notes(records: Sequence[Record], settings: dict[str, tuple[str, ...]]) -> list[str]:
    notes = []
    pictures = {record.spec.digests.get("data", "") for record in records}
    if len(pictures) > 1 or any(name.startswith("data.") for name in settings):
        notes.append(
            "The runs were not all on the same images, or not prepared alike: their accuracies "
            "are about different things."
        )
    if len(records) > 1:
        notes.append(
            "These are single runs: another seed may turn their order round. A study "
            "(`attnzoo ablate`) pairs seeds and says what is more than chance."
        )
    notes += [
        f"{record.folder.name} diverged: {record.result.message}"
        for record in records
        if record.result.status == "diverged"
    ]
    return notes
