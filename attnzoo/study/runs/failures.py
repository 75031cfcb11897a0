"""Runs that failed: what is kept of them until they are tried again."""

from __future__ import annotations

import uuid
from pathlib import Path

from attnzoo.errors import StudyError
from attnzoo.study.runs.folder import run_folder
from attnzoo.study.runs.writing import write_atomically
from attnzoo.train import Config, RunSpec

__all__ = ["Failure", "forget_failure", "note_failure", "read_failure", "read_failures"]

FAILURE = "failure.json"
"""In the folder of the unfinished run, beside its log and its checkpoint."""


class Failure(Config):
    """A run that failed.

    Attributes:
        backbone, variant, seed: which.
        message: why, in a line.
        log: file that tells more.
        attempt: different for every failure.
    """

    backbone: str
    variant: str
    seed: int
    message: str
    log: str
    attempt: str

    def __str__(self) -> str:
        return (
            f"{self.backbone}, {self.variant}, seed {self.seed}: {self.message}\n  See {self.log}"
        )


def note_failure(folder: Path, run: RunSpec, message: str, output: str = "") -> Failure:
    """Keep a failure where the run's unfinished folder is.

    Args:
        folder: where the run belongs.
        run: which run.
        message: why it failed, in a line.
        output: what else the run's log is to tell.

    Raises:
        StudyError: it cannot be written down.
    """
    partial = _unfinished(folder)
    log = partial / "log.txt"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"failed: {message}\n{output}".rstrip() + "\n")
    except OSError as error:
        raise StudyError(
            f"a run failed ({message}), and that cannot be written down: {error}. What is done is "
            f"kept; the same command goes on from there."
        ) from None
    failure = Failure(
        backbone=run.backbone,
        variant=run.variant.title,
        seed=run.train.seed,
        message=message,
        log=str(log),
        attempt=uuid.uuid4().hex,
    )
    write_atomically(partial / FAILURE, failure.model_dump_json(indent=2))
    return failure


def read_failure(folder: Path) -> Failure | None:
    """How the run that belongs into `folder` failed last time, or None; a damaged note is none."""
    try:
        text = (_unfinished(folder) / FAILURE).read_text(encoding="utf-8")
        return Failure.model_validate_json(text)
    except (OSError, ValueError):
        return None


def read_failures(folder: Path, runs: list[RunSpec]) -> dict[str, Failure]:
    """Run's id → its failure, of those runs of the study in `folder` that failed."""
    found = ((run.id, read_failure(run_folder(folder, run))) for run in runs)
    return {name: failure for name, failure in found if failure is not None}


def forget_failure(folder: Path) -> None:
    """The run is tried again; its log stays."""
    (_unfinished(folder) / FAILURE).unlink(missing_ok=True)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")
