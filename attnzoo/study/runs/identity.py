"""What a study's runs depend on beside its file, and what becomes of runs where that changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from attnzoo.errors import AttnzooError, DataError, StudyError
from attnzoo.study.definition import Study, digest_keys
from attnzoo.study.runs.attempt import data_of
from attnzoo.study.runs.folder import (
    DataRecord,
    described,
    read_data,
    read_folder,
    run_folder,
)
from attnzoo.study.runs.record import is_finished, read_run
from attnzoo.train import (
    CODE,
    DATA,
    RESULT,
    WEIGHTS,
    DataSpec,
    ImageData,
    RunSpec,
    Variant,
    backbone_digests,
    block_defaults,
    build,
    changes,
    claimed,
    data_digest,
    unchecked,
)

__all__ = ["first_data", "identified_study", "study_changes"]

ROUNDING = 1.0  # mean difference of pixels, of 255, that another version of Pillow may make


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
    _adopt(told, folder, data)
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
    said = changes(_of_blocks(before, former=True) | before.digests, study.digests)
    if before.digests or not study.digests:
        return said
    left = [run for run in study.runs if _old_place(folder, run) and not _has_other_block(run)]
    if left:  # the others were taken over
        said += _differences(left, folder, data_of(unchecked(study.data_of(study.backbones[0]))))
    return said


def _of_blocks(study: Study, *, former: bool = False) -> dict[str, str]:
    """What of the variants' blocks is left to defaults that were others once, by their titles."""
    left = {v.title: block_defaults(v, former=former) for v in study.variants}
    return {f"block {title}": text for title, text in left.items()}


def _has_other_block(run: RunSpec) -> bool:
    """Whether its block was another one by default when there were no digests."""
    return block_defaults(run.variant, former=True) != block_defaults(run.variant)


def _with(study: Study, digests: dict[str, str]) -> Study:
    return study.model_copy(update={"digests": digests})


def _before(folder: Path) -> Study | None:
    try:
        return read_folder(folder)[0]
    except StudyError:
        return None


def _adopt(told: Study, folder: Path, data: ImageData) -> None:
    """Take over runs that were done before there were digests, where nothing seems to differ."""
    before = _before(folder)
    if before is None or before.digests or not told.digests:
        return
    old = {run.id: place for run in told.runs if (place := _old_place(folder, run))}
    if not old or _differences(told.runs, folder, data):
        return
    for run in told.runs:
        if run.id in old and not (new := run_folder(folder, run)).exists():
            with claimed(new):
                os.replace(old[run.id], new)


def _old_place(folder: Path, run: RunSpec) -> Path | None:
    """Where the run was left when there were no digests; None where it was not."""
    old = run.before_digests
    place = None if old is None else run_folder(folder, old)
    return place if place is not None and (place / RESULT).is_file() else None


def _differences(runs: Sequence[RunSpec], folder: Path, data: ImageData) -> list[str]:
    """What runs without digests show to be other than now, a line a thing.

    They were on as many pictures of the same classes, some of which a study's folder holds, and
    their backbones began with the same weights. More than that cannot be known of them.
    """
    said = []
    before, now = read_data(folder), described(data)
    if before is None or not _alike(before, now):
        counts = "unknown" if before is None else f"{before.train} train, {before.test} test"
        said.append(
            f"the pictures changed: {counts} before, {now.train} train, {now.test} test now"
        )
    seen = set()
    for run in runs:
        place = _old_place(folder, run)
        if place is None or run.backbone in seen:
            continue
        seen.add(run.backbone)
        record = read_run(place, run)
        if record is not None and not _begins_alike(
            run, record.result.backbone_hash, len(now.classes)
        ):
            said.append(f"the first weights of {run.backbone} at seed {run.train.seed} changed")
    return said


def _alike(before: DataRecord, now: DataRecord) -> bool:
    """Whether what is told of two sets of pictures is the same, up to a rounding of pixels."""
    for key in ("classes", "train", "test"):
        if getattr(before, key) != getattr(now, key):
            return False
    return all(
        (a.label, a.size) == (b.label, b.size)
        and np.abs(a.pixels.astype(int) - b.pixels).mean() <= ROUNDING
        for a, b in zip(before.pictures, now.pictures, strict=False)
    )


def _begins_alike(run: RunSpec, fingerprint: str, classes: int) -> bool:
    plain = run.model_copy(update={"variant": Variant()})
    try:
        with torch.random.fork_rng(devices=[]):
            return build(plain, classes).fingerprint == fingerprint
    except Exception:  # whoever checks the study says so, together with all else
        return True
