"""Doing a study: its runs one after another; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from attnzoo.api import plan
from attnzoo.backbones import create_backbone
from attnzoo.errors import AttnzooError, StudyError
from attnzoo.study.folder import (
    Record,
    read_folder,
    read_run,
    run_folder,
    write_data,
    write_study,
)
from attnzoo.study.grid import Backbone, Study
from attnzoo.study.reading import load_study, parse_study
from attnzoo.study.report import write_report, write_results
from attnzoo.train.data import open_data
from attnzoo.train.run import train
from attnzoo.train.spec import policy_argument
from attnzoo.train.watch import ProgressWatch, Watch

__all__ = ["StudyOutcome", "check_study", "run_study"]


@dataclass(frozen=True)
class StudyOutcome:
    """A study that is done.

    Attributes:
        folder: where everything is.
        report: the report in it.
        records: its runs.
        repeated: how many of them were done by this call; the others were there already.
    """

    folder: Path
    report: Path
    records: list[Record]
    repeated: int


def run_study(
    study: str | Path | Study | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    watch: Watch | None = None,
    console: Console | None = None,
) -> StudyOutcome:
    """Do all runs of a study that are not done yet, then write its tables and its report.

    A run that was interrupted starts again; a finished one stays as it is, unless what it
    depends on has changed in the study.

    Args:
        study: a YAML file, or its content.
        out: the study's folder; `runs/<name>` without it.
        watch: is told about the progress; progress bars on stderr without it.
        console: where those bars go.

    Raises:
        StudyError: the study is wrong; nothing was run, and the message lists every fault.
        DataError: its data are missing or inconsistent.
        MissingExtraError: a package of the extra `study` is not installed.
    """
    if isinstance(study, str | Path):
        study = load_study(study)
    elif not isinstance(study, Study):
        study = parse_study(study)
    folder = Path(out) if out is not None else Path("runs") / study.name
    data = open_data(study.data)
    sizes = {backbone.size for backbone in study.backbones if backbone.size} - {data.size}
    opened = {data.size: data} | {
        size: open_data(study.data.model_copy(update={"size": size})) for size in sizes
    }
    runs = study.runs
    missing = [run for run in runs if read_run(run_folder(folder, run)) is None]
    if missing:
        check_study(study, classes=len(data.classes))
    write_study(folder, study)
    write_data(folder, data)

    def go(listener: Watch) -> None:
        for run in missing:
            train(run, run_folder(folder, run), data=opened[run.data.size], watch=listener)
            write_results(folder)

    if watch is not None:
        go(watch)
    elif missing:
        with ProgressWatch(console, runs=len(missing)) as bars:
            go(bars)
    report = write_report(folder)
    return StudyOutcome(folder, report, read_folder(folder)[1], len(missing))


def check_study(study: Study, classes: int) -> None:
    """See that every backbone can be built, takes the images, and has a place for every variant.

    Nothing is computed: the networks hold no memory.

    Raises:
        StudyError: listing every combination that would fail.
    """
    found = [fault for backbone in study.backbones for fault in _faults(study, backbone, classes)]
    if found:
        raise StudyError(
            f"study {study.name!r} cannot be run.\n" + "\n".join(f"- {fault}" for fault in found)
        )


def _faults(study: Study, backbone: Backbone, classes: int) -> list[str]:
    size = study.data_of(backbone).size
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = create_backbone(backbone.name, **{"num_classes": classes, **backbone.options})
            outputs = model.eval()(torch.empty(2, 3, size, size))
    except AttnzooError as error:
        return [str(error)]
    except Exception as error:
        return [
            f"{backbone.name} fails on images of {size}×{size}: "
            f"{type(error).__name__}: {error}".partition("\n")[0]
        ]
    if tuple(getattr(outputs, "shape", ())) != (2, classes):
        return [f"{backbone.name} must return scores of shape (N, {classes}), one per class."]
    found: dict[str, str] = {}  # a control meets its block's fault again
    for variant in study.variants:
        if variant.policy is not None:
            try:
                plan(
                    model,
                    policy_argument(variant.policy),
                    variant.block,
                    start=variant.start,
                    example=(3, size, size),
                    **variant.options,
                )
            except AttnzooError as error:
                found.setdefault(str(error), f"{backbone.name}, {variant.title}: {error}")
    return list(found.values())
