"""What a study file settles about its verdicts: seeds, looks, margins, the correction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from attnzoo.checks import did_you_mean
from attnzoo.study.definition.entries import shown
from attnzoo.study.definition.grid import Correction, Metric

__all__ = ["judgement_faults", "read_seeds", "settled_metric"]

UNTIL = "{until: decided, least: 5, most: 20}"
MOST_LOOKS = 200


METRICS_OF: dict[str, tuple[Metric, ...]] = {
    "classes": ("top1", "balanced", "macro_f1", "nll"),
    "multilabel": ("map", "f1"),
    "regression": ("mae", "r2"),
}
"""What a network is asked for → what verdicts can be on, first what they are without a word."""


def _task(content: Mapping[str, Any]) -> str:
    data = content.get("data")
    task = data.get("task") if isinstance(data, Mapping) else None
    return task if isinstance(task, str) and task in METRICS_OF else "classes"


def settled_metric(content: Mapping[str, Any]) -> Any:
    """What a study's verdicts are on: what it says, or what its data ask for."""
    return content.get("metric", METRICS_OF[_task(content)][0])


def judgement_faults(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with how verdicts are to be come to."""
    found = []
    for key, example in (("difference_points", 1.0), ("same_within", 0.5)):
        points = content.get(key)
        wrong = isinstance(points, bool) or not isinstance(points, int | float)
        if key in content and (wrong or not 0 < points <= 100):
            found.append(
                f"{key}: must be a number of percentage points above 0, e.g. {example} "
                f"(given: {shown(points)})."
            )
    metrics = METRICS_OF[_task(content)]
    metric = content.get("metric", metrics[0])
    if metric not in metrics:
        found.append(
            f"metric: {shown(metric)} is none.{did_you_mean(str(metric), metrics)} "
            f"There are: {', '.join(metrics)}."
        )
    correction = content.get("correction", "holm")
    if correction not in get_args(Correction):
        known = get_args(Correction)
        found.append(
            f"correction: {correction!r} is none.{did_you_mean(str(correction), known)} Write holm "
            "for verdicts to be claimed, or fdr to screen many blocks."
        )
    return found


def read_seeds(seeds: Any, found: list[str]) -> tuple[Any, int | None]:
    """The seeds, and from how many on they are looked at after each; faults go to `found`."""
    if isinstance(seeds, Mapping):
        return _until_decided(seeds, found)
    numbers = isinstance(seeds, list | tuple | range) and len(seeds) > 0
    if not numbers or not all(
        isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds
    ):
        found.append(
            f"seeds: must be a list of whole numbers, e.g. [0, 1, 2], or {UNTIL} "
            f"(given: {shown(seeds)})."
        )
    elif len(set(seeds)) < len(seeds):
        found.append(f"seeds: each only once (given: {shown(seeds)}).")
    return seeds, None


def _until_decided(seeds: Mapping[str, Any], found: list[str]) -> tuple[Any, int | None]:
    known = ("until", "least", "most")
    wrong = [
        f"seeds.{key}: there is no such key.{did_you_mean(str(key), known)} "
        f"There are: {', '.join(known)}."
        for key in seeds
        if key not in known
    ]
    least, most = (seeds.get(key, default) for key, default in (("least", 5), ("most", 0)))
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (least, most))
    if seeds.get("until") != "decided":
        wrong.append(f"seeds.until: write {UNTIL}.")
    elif not whole or not 3 <= least <= most <= MOST_LOOKS:
        wrong.append(
            f"seeds: least and most must be whole numbers, 3 ≤ least ≤ most ≤ {MOST_LOOKS}, as in "
            f"{UNTIL} (given: {shown(dict(seeds))})."
        )
    found += wrong
    return ([0], None) if wrong else (list(range(most)), least)
