"""Which runs a study still needs, where it stops once it is decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from attnzoo.study.definition import Study
from attnzoo.study.numbers.differences import in_order
from attnzoo.study.numbers.futility import futile
from attnzoo.study.numbers.rules import LEVEL, Rules
from attnzoo.study.numbers.sequential import sequential_p, sequential_same_p
from attnzoo.study.numbers.verdicts import corrected
from attnzoo.train import RunResult, RunSpec

__all__ = ["needed_runs"]


def needed_runs(study: Study, results: Iterable[RunResult]) -> list[RunSpec]:
    """The runs of a study, without those that nothing hangs on any more.

    All of them, unless the study is one to be looked at after each seed. Then, of the seeds after
    the first look, a variant has those that are done, and others only while one of its comparisons
    is open: neither decided, nor given up because it would hardly be. Where a margin was settled
    nothing is given up, for what hardly differs may yet be the same. What has closed stays so.

    Args:
        study: what was asked for.
        results: of its finished runs.
    """
    if study.look_from is None:
        return study.runs
    results = list(results)
    done = {(r.backbone, r.variant, r.seed) for r in results}
    wanted = _open(study, results)
    first = set(study.seeds[: study.look_from])
    return [
        run
        for run in study.runs
        for title in [run.variant.title]
        if run.train.seed in first
        or (run.backbone, title) in wanted
        or (run.backbone, title, run.train.seed) in done
    ]


def _open(study: Study, results: Sequence[RunResult]) -> set[tuple[str, str]]:
    """`(backbone, variant)` of both sides of every comparison that is not decided."""
    rules = Rules.of(study)
    least, most = rules.looks or (0, 0)
    values: dict[tuple[str, str], dict[int, float | None]] = {}
    for result in results:
        own = values.setdefault((result.backbone, result.variant), {})
        own[result.seed] = rules.measure.of(result)
    different, same = [], []
    given_up = []
    level = LEVEL / max(1, rules.comparisons)
    for backbone, variant, baseline in study.comparisons:
        ours, theirs = (values.get((backbone, name), {}) for name in (variant, baseline))
        found = np.array(in_order(theirs, ours, study.seeds))
        different.append(float(sequential_p(found, least, most)))
        given_up.append(rules.margin is None and bool(futile(found, least, most, level)))
        if rules.margin is not None:
            same.append(float(sequential_same_p(found, rules.margin, least, most)))
    p, p_same = corrected(different, same or None, rules)
    smallest = p if p_same is None else np.minimum(p, p_same)
    return {
        (backbone, name)
        for (backbone, *pair), told, gone in zip(study.comparisons, smallest, given_up, strict=True)
        if told > LEVEL and not gone
        for name in pair
    }
