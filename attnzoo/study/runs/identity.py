"""What a study's runs depend on beside its file, and what becomes of runs where that changes."""

from __future__ import annotations

import os
from pathlib import Path

from attnzoo.errors import AttnzooError, DataError, StudyError
from attnzoo.study.definition import Study, digest_keys
from attnzoo.study.runs.attempt import data_of
from attnzoo.study.runs.folder import read_data, read_folder, run_folder
from attnzoo.study.runs.record import is_finished
from attnzoo.train import (
    CODE,
    DATA,
    WEIGHTS,
    DataSpec,
    ImageData,
    backbone_digests,
    block_defaults,
    changes,
    claimed,
    data_digest,
    unchecked,
)

__all__ = ["first_data", "identified_study", "study_changes"]


def identified_study(study: Study, folder: Path) -> Study:
    """The study with digests of its pictures, its backbones' code and weights, and its blocks.

    Where the data are gone, but all runs on them are done, it stays as it was.

    Raises:
        DataError: the data are missing or inconsistent.
    """
    found: dict[str, str] = {}
    for backbone in study.backbones:
        run = study.run(backbone, study.variants_of(backbone)[0], study.seeds[0])
        options = run.building
        try:
            own = backbone_digests(run.backbone, options.pop("weights"), options)
        except AttnzooError:  # whoever checks the study says so, together with all else
            continue
        keys = digest_keys(backbone.name, "")
        found |= {keys[kind]: own[kind] for kind in (CODE, WEIGHTS)}
    found |= _of_blocks(study)
    try:
        data = data_of(unchecked(study.data_of(study.backbones[0])))
        found[DATA] = data_digest(data, full=getattr(study.data, "digest", "") == "full")
    except DataError:
        before = _before(folder)
        same = {key: value for key, value in found.items() if value}
        if before is None or {**same, DATA: before.digests.get(DATA, "")} != before.digests:
            raise
        told = _with(study, before.digests)
        if not all(is_finished(run_folder(folder, run), run) for run in told.runs):
            raise
        return told
    told = _with(study, {key: value for key, value in found.items() if value})
    _adopt(study, told, folder, data)
    return told


def first_data(study: Study) -> DataSpec:
    """The data as the first backbone that there is wants them."""
    for run in study.runs:
        try:
            return run.prepared
        except AttnzooError:
            continue
    return study.data_of(study.backbones[0])


def study_changes(folder: Path, study: Study) -> list[str]:
    """What has changed since the runs in the folder were done, a line a thing."""
    before = _before(folder)
    if before is None:
        return []
    return changes(_of_blocks(before, former=True) | before.digests, study.digests)


def _of_blocks(study: Study, *, former: bool = False) -> dict[str, str]:
    """What of the variants' blocks is left to defaults that were others once, by their titles."""
    left = {v.title: block_defaults(v, former=former) for v in study.variants}
    return {f"block {title}": text for title, text in left.items()}


def _with(study: Study, digests: dict[str, str]) -> Study:
    return study.model_copy(update={"digests": digests})


def _before(folder: Path) -> Study | None:
    try:
        return read_folder(folder)[0]
    except StudyError:
        return None


def _adopt(study: Study, told: Study, folder: Path, data: ImageData) -> None:
    """Take over runs that were done before there were digests, on as many pictures as now."""
    before = _before(folder)
    if before is None or before.digests or not told.digests:
        return
    seen = read_data(folder)
    if seen is None or (seen.train, seen.test) != (len(data.train), len(data.test)):
        return
    for run in told.runs:
        old = run.before_digests
        if old is None:
            continue
        place, new = run_folder(folder, old), run_folder(folder, run)
        if (place / "result.json").is_file() and not new.exists():
            with claimed(new):
                os.replace(place, new)
