"""Comparisons over images: against statsmodels, and bootstraps written out."""

from __future__ import annotations

import numpy as np
import pytest

from attnzoo.study.numbers import METRICS
from attnzoo.study.numbers.imagewise import Resampled, compared, mcnemar_p
from attnzoo.train import MEASURES, Predictions


def answers(right: np.ndarray, places: np.ndarray | None = None) -> Predictions:
    """Two classes in turns, right where asked for."""
    count = len(right)
    labels = np.arange(count) % 2
    predicted = np.where(right, labels, 1 - labels)
    chance = np.where(right, 0.8, 0.3)
    places = np.arange(count) if places is None else places
    return Predictions(2, places, labels, predicted, np.log(chance), np.maximum(chance, 0.7))


def study(seeds: int, images: int) -> dict[int, tuple[Predictions, Predictions]]:
    """Images and seeds have shares of their own in what is right."""
    rng = np.random.default_rng([seeds, images])
    hard, luck = rng.normal(size=images), rng.normal(size=(seeds, 2)) / 3
    noise = rng.normal(size=(seeds, 2, images)) / 2
    right = hard + luck[:, :, None] + noise + np.array([0.3, 0.0])[:, None] > 0
    return {seed: (answers(ours), answers(theirs)) for seed, (ours, theirs) in enumerate(right)}


def test_with_one_seed_mcnemar_is_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    ((ours, theirs),) = study(1, 300).values()
    table = [
        [(ours.right & theirs.right).sum(), (ours.right & ~theirs.right).sum()],
        [(~ours.right & theirs.right).sum(), (~ours.right & ~theirs.right).sum()],
    ]
    expected = tables.mcnemar(table, exact=False, correction=False).pvalue
    found = compared({0: (ours, theirs)}, Resampled(METRICS["top1"], 300))
    assert found.p == pytest.approx(expected, abs=1e-9)
    assert (found.gained, found.lost) == (table[0][1], table[1][0])
    assert (found.low, found.high) == (None, None)


def test_repeating_a_seed_tells_mcnemar_nothing_new() -> None:
    ((ours, theirs),) = study(1, 300).values()
    once, thrice = (
        compared(dict.fromkeys(range(n), (ours, theirs)), Resampled(METRICS["top1"], 300)).p
        for n in (1, 3)
    )
    assert once == pytest.approx(thrice, abs=1e-12)
    assert mcnemar_p([0, 0]) is None


@pytest.mark.parametrize("metric", ["top1", "macro_f1", "balanced", "nll"])
def test_seeds_and_images_are_drawn_as_by_hand(metric: str) -> None:
    """The interval is that of a bootstrap that takes indices, to its Monte Carlo error."""
    pairs, images, draws = study(6, 60), 60, 2000
    measure, rng = MEASURES[metric], np.random.default_rng(5)

    def taken(found: Predictions, chosen: np.ndarray) -> float:
        names = ("images", "labels", "predicted", "log_probability", "confidence")
        return float(measure(Predictions(2, *(getattr(found, name)[chosen] for name in names))))

    drawn = []
    for _ in range(draws):
        chosen = rng.integers(images, size=images)
        gaps = [taken(ours, chosen) - taken(theirs, chosen) for ours, theirs in pairs.values()]
        drawn.append(np.mean([gaps[s] for s in rng.integers(len(pairs), size=len(pairs))]))
    found = compared(pairs, Resampled(METRICS[metric], images))
    assert found.mean == pytest.approx(
        np.mean([float(measure(a) - measure(b)) for a, b in pairs.values()])
    )
    error = 3 * np.std(drawn) * np.sqrt(0.025 * 0.975 * (1 / draws + 1 / 1000)) / 0.0584
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([found.low, found.high], abs=error)


def test_images_that_set_two_apart_are_right_at_all_seeds_and_at_none() -> None:
    right = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 1, 0]], bool)
    wrong = np.array([[0, 1, 1, 0, 1], [0, 0, 1, 0, 0]], bool)
    places = np.array([3, 4, 7, 8, 9])  # of a test set drawn from ten images
    pairs = {s: (answers(right[s], places), answers(wrong[s], places)) for s in range(2)}
    found = compared(pairs, Resampled(METRICS["top1"], 10))
    assert (found.always, found.never) == ((3,), (7,))
    assert (found.gained, found.lost) == (4, 2)
