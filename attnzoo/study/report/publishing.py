"""A study to hand on: everything that its report rests on, without the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from attnzoo.errors import StudyError
from attnzoo.study.numbers import CONTRASTS, COSTS
from attnzoo.study.report.report import write_report
from attnzoo.study.runs import DATA, METRICS, STUDY, Record, read_folder, take, write_atomically
from attnzoo.train import ENVIRONMENT, MAPS, PREDICTIONS, RESULT, SPEC, RunSpec

__all__ = ["publish_study"]

OF_STUDY = (STUDY, DATA, COSTS, CONTRASTS)
OF_RUN = (ENVIRONMENT, METRICS, PREDICTIONS)


def publish_study(folder: str | Path, out: str | Path) -> Path:
    """Copy a study without its weights, so that whoever gets the copy can check the report.

    The copy holds the study, its data's description, the measured costs, and of every finished run
    what it was, what it came to, its epochs, its answers on the test images and where it ran; the
    attention maps of the first seed; and the report. `attnzoo report` writes the same report from
    it, and `attnzoo ablate` takes its runs for done, unless the study keeps networks.

    Args:
        folder: of the study; it stays as it is.
        out: where the copy goes. Runs that are there already, from an earlier copy, stay.

    Returns:
        The path of the copy's `report.html`.

    Raises:
        StudyError: no study is in `folder`, none of its runs is finished, or `out` is the same
            folder or holds files of somebody else's.
    """
    folder, out = Path(folder), Path(out)
    study, records = read_folder(folder)
    if not records:
        raise StudyError(f"{str(folder)!r}: none of the {len(study.runs)} runs is finished yet.")
    if out.resolve() == folder.resolve():
        raise StudyError(f"{str(out)!r} is the study's own folder. Name another for the copy.")
    there = [name for name in OF_STUDY if (folder / name).is_file()]
    take(out, there)
    for name in there:
        shutil.copyfile(folder / name, out / name)
    for record in records:
        _copy_run(record, out / "runs" / record.folder.name, record.result.seed == study.seeds[0])
    return write_report(out)


def _copy_run(record: Record, out: Path, maps: bool) -> None:
    """The result comes last: a folder that has it counts as a finished run."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / SPEC, _handed_on(record.spec).model_dump_json(indent=2))
    for name in (*OF_RUN, *([MAPS] * maps), RESULT):
        if (record.folder / name).is_file():
            shutil.copyfile(record.folder / name, out / name)


def _handed_on(run: RunSpec) -> RunSpec:
    """The run with data and weights by their names alone; it is told apart by what is in them."""
    update: dict[str, object] = {}
    root = getattr(run.data, "root", None)
    if root is not None and Path(root).is_absolute():
        update["data"] = run.data.model_copy(update={"root": Path(root).name})
    if run.weights is not None and Path(run.weights).is_absolute():
        update["weights"] = Path(run.weights).name
    return run.model_copy(update=update)
