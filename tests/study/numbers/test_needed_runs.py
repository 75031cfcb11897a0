"""Which runs are still needed, and that what is decided stays so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import STUDY, made_up, result

from attnzoo.study import Rules, read_folder, summarise, write_report
from attnzoo.study.definition import Study, parse_study
from attnzoo.study.numbers import needed_runs, study_summaries
from attnzoo.study.numbers.sequential import look_bounds
from attnzoo.train import RunResult, RunSpec

CONTENT: dict[str, Any] = {
    **STUDY,
    "seeds": {"until": "decided", "least": 5, "most": 12},
    "variants": [{"policy": "auto", "block": "se"}, {"policy": "auto", "block": "eca"}],
}
EFFECTS = {"se": 0.1, "eca": 0.0}


def top1(run: RunSpec, effects: dict[str, float] = EFFECTS) -> float:
    shared = 0.02 * np.random.default_rng(run.train.seed).normal()
    own = 0.004 * np.random.default_rng([run.train.seed, len(run.variant.title)]).normal()
    return 0.6 + shared + own + (effects[run.variant.block] if run.variant.policy else 0)


def results(study: Study, runs: list[RunSpec]) -> list[RunResult]:
    return [
        result("plain", run.train.seed, top1(run), backbone=run.backbone).model_copy(
            update={"variant": run.variant.title, "policy": run.variant.policy or ""}
        )
        for run in runs
    ]


def in_turn(study: Study) -> list[RunSpec]:
    """The runs of a study as one worker does them, one after another."""
    done: list[RunSpec] = []
    while True:
        left = [run for run in needed_runs(study, results(study, done)) if run not in done]
        if not left:
            return done
        done.append(left[0])


def test_what_is_decided_has_no_further_runs() -> None:
    study = parse_study(CONTENT)
    assert (study.look_from, study.seeds) == (5, tuple(range(12)))
    done = in_turn(study)
    seeds = {
        name: sum(r.variant.title == name for r in done)
        for name in ("plain", "auto + se", "auto + eca")
    }
    assert 5 == seeds["auto + se"] <= seeds["auto + eca"] == seeds["plain"] < 12  # given up
    rows = summarise(results(study, done), rules=Rules.of(study), seeds=study.seeds)
    verdicts = {row.variant: row.difference.verdict for row in rows if row.difference}
    assert verdicts == {"auto + se": "better", "auto + eca": "no evidence"}


def test_before_the_first_look_all_are_needed() -> None:
    study = parse_study(CONTENT)
    few = [run for run in study.runs if run.train.seed < 4]
    assert needed_runs(study, results(study, few)) == study.runs
    fixed = parse_study({**CONTENT, "seeds": [0, 1]})
    assert needed_runs(fixed, []) == fixed.runs


def test_the_same_is_a_decision_too() -> None:
    study = parse_study({**CONTENT, "same_within": 2})
    done = in_turn(study)
    assert len(done) < len(study.runs) - 8
    rows = summarise(results(study, done), rules=Rules.of(study), seeds=study.seeds)
    assert [row.difference.verdict for row in rows if row.difference] == ["better", "same"]


def test_a_run_that_is_late_changes_no_decision() -> None:
    """Of seeds 0 to 11 the third is missing: what comes after it is not looked at."""
    study = parse_study(CONTENT)
    gap = [run for run in study.runs if run.train.seed != 2]
    rows = summarise(results(study, gap), rules=Rules.of(study), seeds=study.seeds)
    assert [row.difference.seeds for row in rows if row.difference] == [2, 2]
    assert [row.difference.p for row in rows if row.difference] == [1, 1]
    # A run that diverged is done, and is no pair.
    lost = [
        r.model_copy(update={"top1": None, "status": "diverged"})
        if (r.seed, r.variant) == (2, "auto + se")
        else r
        for r in results(study, study.runs)
    ]
    rows = summarise(lost, rules=Rules.of(study), seeds=study.seeds)
    assert [row.difference.seeds for row in rows if row.difference] == [11, 12]


def test_comparisons_that_have_not_begun_count() -> None:
    nets = ["torchvision/resnet18", "torchvision/vgg11"]
    study = parse_study({**CONTENT, "backbones": nets})
    assert study.comparisons == [
        (net, f"auto + {block}", "plain") for net in nets for block in ("se", "eca")
    ]
    first = [run for run in study.runs if run.backbone == nets[0]]
    rows = summarise(results(study, first), rules=Rules.of(study), seeds=study.seeds)
    found = rows[1].difference
    assert found.p_corrected == pytest.approx(4 * found.p)


def test_decisions_err_in_five_percent_of_studies() -> None:
    """The whole rule on made-up differences: the bounds, read off the p that decide."""
    rng = np.random.default_rng(0)
    rules = Rules(looks=(5, 10), comparisons=1)
    seeds, found = range(10), 0
    for _ in range(400):
        values = rng.normal(0, 0.01, 10)
        runs = [
            result(name, s, 0.5 + v) for s in seeds for name, v in (("plain", 0), ("se", values[s]))
        ]
        difference = summarise(runs, rules=rules, seeds=list(seeds))[1].difference
        found += difference.verdict != "no evidence"
    assert found <= 33  # 99% of 400 at 5%
    assert look_bounds(5, 10)[0] < 0.02


def test_the_report_says_at_which_looks(tmp_path: Path) -> None:
    study = parse_study(CONTENT)
    needed = {run.id for run in in_turn(study)}
    made_up(tmp_path, CONTENT, top1, only=lambda run: run.id in needed)
    text = write_report(tmp_path).read_text()
    assert "looked at after each seed from 5 to 12" in text
    assert "not finished" not in text
    assert "until: decided" in text  # how to run it again
    assert "paired t test, t(" in text
    assert "after each seed from 5 to at most 12, with alpha spending" in text
    asked, records = read_folder(tmp_path)
    assert asked == study
    assert {row.seeds for row in study_summaries(asked, records)} < set(range(5, 12))
    assert "would hardly have been decided was given up" in text
