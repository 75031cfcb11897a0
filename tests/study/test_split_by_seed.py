"""A study whose images are drawn anew at each seed: paired, corrected, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from studies import STUDY, Log
from training import make_folder

from attnzoo.errors import StudyError
from attnzoo.study import parse_study, read_folder, run_study, write_report
from attnzoo.study.numbers import study_summaries
from attnzoo.train import PREDICTIONS, read_predictions


def content(root: Path, **changes: Any) -> dict[str, Any]:
    data = {"name": "folder", "root": str(root), "size": 16, "split": "by seed", **changes}
    return {
        **STUDY,
        "data": data,
        "train": {"epochs": 0, "batch_size": 8, "device": "cpu"},
        "variants": [{"name": "ours", "policy": "pre-pool", "block": "se"}],
        "seeds": [0, 1, 2, 3],
        "same_within": 20,
    }


def test_verdicts_take_into_account_that_splits_share_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"cat": 20, "dog": 20})
    folder = tmp_path / "study"
    outcome = run_study(content(root, folds=4), folder, watch=Log())
    again = run_study(content(root, folds=4), folder, watch=Log())
    assert (outcome.repeated, again.repeated) == (8, 0)
    for record in read_folder(folder)[1]:  # so small a network learns nothing of noise
        told = {"top1": 0.5 + (record.result.seed + 1) % 3 / 20 * bool(record.result.policy)}
        changed = record.result.model_copy(update=told).model_dump_json()
        (record.folder / "result.json").write_text(changed)
    write_report(folder)
    study, records = read_folder(folder)
    tested = {
        (r.result.variant, r.result.seed): read_predictions(r.folder / PREDICTIONS).images
        for r in records
    }
    for seed in range(4):
        images = [tested[name, seed] for name in {name for name, _ in tested}]
        assert (images[0] == images[1]).all()
    assert len(np.unique(np.concatenate([tested["plain", seed] for seed in range(4)]))) == 80
    plain, ours = (
        np.array([r.result.top1 for r in records if r.result.variant == name])
        for name in ("plain", "ours")
    )
    gaps = ours - plain
    error = np.sqrt(gaps.var(ddof=1) * (1 / 4 + 1 / 3))
    difference = study_summaries(study, records)[1].difference
    assert difference.p == pytest.approx(2 * stats.t.sf(abs(gaps.mean()) / error, 3), abs=1e-12)
    low, high = stats.t.interval(0.95, 3, gaps.mean(), error)
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=1e-12)
    same = max(stats.t.sf((0.2 - s * gaps.mean()) / error, 3) for s in (1, -1))
    assert difference.p_same == pytest.approx(same, abs=1e-12)
    assert difference.probability_better == pytest.approx(
        stats.t.sf((0.2 - gaps.mean()) / error, 3), abs=1e-12
    )
    assert (difference.effect, difference.p_permutation) == (None, None)
    page = (folder / "report.md").read_text()
    assert "drawn anew at each seed, in 4 folds" in page
    assert "paired t test with Nadeau and Bengio's correction" in page


def test_looks_do_not_go_with_it(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not go with split: by seed"):
        parse_study({**content(tmp_path), "seeds": {"until": "decided", "most": 9}})
