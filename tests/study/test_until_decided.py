"""A study that stops where it is decided, from its file to its report, with made-up training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import STUDY, result

from attnzoo.study import run_study
from attnzoo.study.runs import attempt
from attnzoo.train import RunSpec, Watch

CONTENT: dict[str, Any] = {
    **STUDY,
    "seeds": {"until": "decided", "least": 3, "most": 8},
    "variants": [{"policy": "pre-pool", "block": "se"}, {"policy": "pre-pool", "block": "eca"}],
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Training that takes no time; its runs, in order."""
    done: list[tuple[str, int]] = []

    def train(run: RunSpec, folder: Path, **_: Any) -> None:
        title, seed = run.variant.title, run.train.seed
        done.append((title, seed))
        added = {"pre-pool + se": 0.3, "pre-pool + eca": 0.0, "plain": 0.0}[title]
        noise = 0.001 * np.random.default_rng([seed, len(title)]).normal()
        told = result("plain", seed, 0.5 + added + noise, backbone=run.backbone).model_copy(
            update={"variant": title, "policy": run.variant.policy or ""}
        )
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run.model_dump_json())
        (folder / "result.json").write_text(told.model_dump_json())

    monkeypatch.setattr(attempt, "train", train)
    return done


def test_what_is_decided_is_not_run(tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    outcome = run_study(CONTENT, tmp_path, watch=Watch())
    seeds = {name: [s for n, s in trained if n == name] for name, _ in trained}
    assert seeds["plain"] == seeds["pre-pool + eca"] == list(range(len(seeds["plain"])))
    assert 3 <= len(seeds["pre-pool + se"]) <= len(seeds["plain"]) < 8  # decided, and given up
    assert len(outcome.records) == outcome.repeated == len(trained)
    assert outcome.failures == []
    # It is done: calling it again does nothing.
    stamp = outcome.report.stat().st_mtime_ns
    again = run_study(CONTENT, tmp_path, watch=Watch())
    assert (again.repeated, len(trained)) == (0, len(outcome.records))
    assert outcome.report.stat().st_mtime_ns == stamp


def test_without_it_all_seeds_are_run(tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    run_study({**CONTENT, "seeds": list(range(8))}, tmp_path, watch=Watch())
    assert len(trained) == 3 * 8
