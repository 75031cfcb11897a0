"""How long a study will take: where that comes from, and that it stays within its budget."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from studies import STUDY

from attnzoo.errors import DataError
from attnzoo.study import check_study, parse_study, run_study
from attnzoo.study.runs.forecast import forecast
from attnzoo.train import Watch, open_data

module = import_module("attnzoo.study.runs.forecast")  # not the function of this name


def forecasts(study: Any, records: Any = (), **options: Any) -> list[tuple[float | None, str]]:
    data = open_data(study.data)
    cells = check_study(study, classes=len(data.classes))
    return [(f.seconds, f.how) for f in forecast(study, cells, records, data, **options)]


def test_what_is_finished_says_how_long_it_took(tmp_path: Path) -> None:
    done = run_study({**STUDY, "variants": ["plain"]}, tmp_path, watch=Watch()).records
    mean = sum(record.result.seconds for record in done) / 2
    (plain, seen), (se, how) = forecasts(parse_study(STUDY), done, budget=0)
    assert (plain, seen) == (pytest.approx(mean), "finished")
    cells = check_study(parse_study(STUDY), classes=10)
    assert (se, how) == (pytest.approx(mean * cells[1].macs / cells[0].macs), "scaled")
    assert se > plain


def test_steps_are_timed_and_scaled_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def two_steps(run: Any, data: Any, images: int) -> tuple[float, float]:
        asked.append((run.variant.title, images))
        return 1.0, 1.0 + 0.5 * images  # setting up, a step

    monkeypatch.setattr(module, "_two_steps", two_steps)
    # 2 epochs of 2 steps of 16 images, 9 s each, and 16 test images at a third of that.
    whole = 1 + 2 * (2 * 9 + 9 / 3)
    assert forecasts(parse_study(STUDY), budget=100) == [(pytest.approx(whole), "timed")] * 2
    assert asked == [(title, n) for title in ("plain", "pre-pool + se") for n in (4, 16)]
    asked.clear()
    # Twice four times as long as four images took is over the budget: these alone are counted with.
    each = 3 / 4
    whole = 1 + 2 * (2 * 16 * each + 16 * each / 3)
    assert forecasts(parse_study(STUDY), budget=10) == [(pytest.approx(whole), "timed")] * 2
    assert asked == [("plain", 4), ("pre-pool + se", 4)]


def test_what_a_step_takes_anyway_is_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_two_steps", lambda run, data, images: (0.0, 1 + images / 100))
    large = {**STUDY, "train": {**STUDY["train"], "batch_size": 64, "epochs": 1}}
    large["data"] = {**STUDY["data"], "train": 64, "test": 1}
    ((seconds, _), _) = forecasts(parse_study(large), budget=10)
    assert seconds == pytest.approx((1 + 0.64) * (1 + 1 / 64 / 3))


def test_training_of_its_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_two_steps", lambda run, data, images: (0.0, images / 16))
    longer = {"policy": "pre-pool", "block": "se", "train": {"epochs": 20}}
    study = parse_study({**STUDY, "variants": [longer]})
    (plain, _), (se, _) = forecasts(study)
    assert plain == se == pytest.approx(20 * (2 + 1 / 3))


def test_real_steps_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = forecasts(parse_study(STUDY))
    assert [how for _, how in found] == ["timed", "timed"]
    assert all(seconds > 0 and math.isfinite(seconds) for seconds, _ in found)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_timed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise DataError("no such image")

    monkeypatch.setattr(module, "_two_steps", broken)
    assert forecasts(parse_study(STUDY)) == [(None, "unknown")] * 2
