"""Count how often verdicts are wrong, and how many seeds they take, in simulated studies.

    python benchmarks/bench_verdicts.py

Differences over seeds are normal, with standard deviation 1. What differs is known, so what is
said wrongly can be counted. Everything is computed for all studies of a case at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from attnzoo.study.numbers.corrections import benjamini_hochberg, holm, shared
from attnzoo.study.numbers.equivalence import same_p, seeds_for_same
from attnzoo.study.numbers.futility import futility_bounds
from attnzoo.study.numbers.inference import paired_p
from attnzoo.study.numbers.ranks import friedman_p
from attnzoo.study.numbers.resampled import resampled_p
from attnzoo.study.numbers.sequential import (
    look_bounds,
    p_at_looks,
    sequential_p,
    sequential_same_p,
)

LEVEL = 0.05
Correct = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, default=10_000, help="of each case")
    studies = parser.parse_args().studies
    print(f"{studies:,} simulated studies a case; standard error of 5%: ", end="")
    print(f"{100 * np.sqrt(0.05 * 0.95 / studies):.2f} points\n")
    for part in (margins, forecasts, looks, screening, ranks, splits):
        part(studies)
        print()


def draw(true: NDArray, seeds: int, studies: int) -> NDArray:
    """Differences, `(studies, comparisons, seeds)`."""
    rng = np.random.default_rng([seeds, len(true)])
    return true[:, None] + rng.normal(size=(studies, len(true), seeds))


def wrong(true: NDArray, margin: float, different: NDArray, same: NDArray, mean: NDArray) -> float:
    """Share of studies that say anything wrong: better, worse or the same."""
    said = (different <= LEVEL) & ((true == 0) | (mean * true < 0))
    said |= (same <= LEVEL) & (np.abs(true) >= margin - 1e-12)
    return float(said.any(-1).mean())


def apart(different: NDArray, same: NDArray) -> tuple[NDArray, NDArray]:
    """Holm's correction of either kind by itself."""
    return holm(different), holm(same)


def handing_on(different: NDArray, same: NDArray) -> tuple[NDArray, NDArray]:
    """Holm's steps over comparisons, each by the smaller of its p."""
    stepped, first = holm(np.minimum(different, same)), different <= same
    return np.where(first, stepped, 1.0), np.where(first, 1.0, stepped)


def margins(studies: int) -> None:
    print("wrong verdicts of any kind, % of studies      shared   Holm apart   Holm handing on")
    for seeds in (5, 10, 40):
        for count in (1, 6):
            for name, at in (("nothing differs", [0.0]), ("all at the margin", [1.0]),
                             ("half and half", [0.0, 1.0])):  # fmt: skip
                if count == 1 and len(at) == 2:
                    continue
                worst = [0.0, 0.0, 0.0]
                for errors in (3, 4, 6):  # of a mean, as wide is the margin
                    margin = errors / np.sqrt(seeds)
                    true = margin * np.resize(at, count)
                    values = draw(true, seeds, studies)
                    p = paired_p(values), same_p(values, margin)
                    for i, correct in enumerate((shared, apart, handing_on)):
                        told = wrong(true, margin, *correct(*p), values.mean(-1))
                        worst[i] = max(worst[i], told)
                told = "   ".join(f"{100 * share:8.1f}" for share in worst)
                print(f"  {seeds:2} seeds, {count} comparisons, {name:18}{told}")


def forecasts(studies: int) -> None:
    print("called the same where nothing differs, with the seeds that were forecast")
    for count in (1, 6):
        for margin in (0.5, 1.0):
            seeds = seeds_for_same(1.0, margin, LEVEL / count)
            assert seeds is not None
            values = draw(np.zeros(count), seeds, studies)
            _, same = shared(paired_p(values), same_p(values, margin))
            told = f"{count} comparisons, margin {margin} deviations: {seeds} seeds"
            print(f"  {told}, {100 * (same <= LEVEL).mean():.1f}%")


def looks(studies: int) -> None:
    print("looking after each seed: wrong verdicts, % of null studies")
    for least, most in ((3, 8), (5, 10), (5, 20), (5, 24)):
        values = draw(np.zeros(1), most, studies)[:, 0]
        each = np.stack([paired_p(values[:, :n]) for n in range(least, most + 1)], -1)
        found = (sequential_p(values, least, most) <= LEVEL).mean()
        anytime = always_valid(values, least)[0].mean()
        naive = (each <= LEVEL).any(-1).mean()
        told = f"{most - least + 1:2} looks, {least} to {most} seeds"
        print(f"  {told}: spending {100 * found:.1f}, always valid {100 * anytime:.1f}, "
              f"uncorrected {100 * naive:.1f}")  # fmt: skip
    values = draw(np.zeros(6), 20, studies)
    found = (holm(sequential_p(values, 5, 20)) <= LEVEL).any(-1).mean()
    print(f"  16 looks, 6 comparisons, after Holm: {100 * found:.1f}")
    for margin in (1.0, 1.5):
        values = draw(np.full(6, margin), 20, studies)
        p = sequential_p(values, 5, 20), sequential_same_p(values, margin, 5, 20)
        told = wrong(np.full(6, margin), margin, *shared(*p), values.mean(-1))
        print(f"  16 looks, 6 comparisons at a margin of {margin} deviations: {100 * told:.1f}")
    print("seeds that looks take, over those of a fixed number with the same power")
    for fixed in (10, 16, 20, 30):
        effect = optimize.brentq(lambda d, n=fixed: power(d, n) - 0.8, 0.1, 4)
        values = draw(np.array([effect, 0.0]), 2 * fixed, studies)
        told = []
        for rule in (spending, spending_alone, always_valid):
            for most in range(fixed, 2 * fixed + 1):
                decided, seeds = rule(values[:, 0, :most], 5)
                if decided.mean() >= 0.8:
                    at_once = seeds_at_once(effect, float(decided.mean()), fixed)
                    found, nothing = rule(values[:, 1, :most], 5)
                    told.append(
                        f"{seeds.mean() / at_once:.2f} of {at_once:.1f} (power "
                        f"{100 * decided.mean():.0f}%, at most {most}; nothing there: "
                        f"{nothing.mean() / at_once:.2f}, {100 * found.mean():.1f}% wrong)"
                    )
                    break
            else:
                told.append("no power of 80% with twice as many")
        for name, said in zip(("spending and giving up", "spending alone", "always valid"), told,
                              strict=True):  # fmt: skip
            print(f"  {fixed} seeds, {name}: {said}")


def seeds_at_once(effect: float, wanted: float, near: int) -> float:
    """As many as the t test takes with this power; a fraction."""
    return optimize.brentq(lambda n: power(effect, n) - wanted, near - 1, 3 * near)


def power(effect: float, seeds: float) -> float:
    critical = stats.f.isf(LEVEL, 1, seeds - 1)
    return float(stats.ncf.sf(critical, 1, seeds - 1, seeds * effect**2))


def spending_alone(values: NDArray, least: int) -> tuple[NDArray, NDArray]:
    """Whether it was decided, and after how many seeds, by alpha spending."""
    p = p_at_looks(values, 0.0, least)
    return _stopped(p <= look_bounds(least, values.shape[-1], LEVEL), least)


def spending(values: NDArray, least: int) -> tuple[NDArray, NDArray]:
    """The same, with what would hardly be decided given up."""
    most = values.shape[-1]
    p = p_at_looks(values, 0.0, least)
    gone = p > futility_bounds(least, most, LEVEL)
    first = np.where(gone.any(-1), gone.argmax(-1), gone.shape[-1])
    reached = p <= look_bounds(least, most, LEVEL)
    reached &= np.arange(reached.shape[-1]) < first[:, None]
    decided, seeds = _stopped(reached, least)
    return decided, np.where(decided, seeds, np.minimum(least + first, most))


def always_valid(values: NDArray, least: int, prior: float = 1.0) -> tuple[NDArray, NDArray]:
    """The same by a Bayes factor that may be looked at at any time.

    Of t with effect sizes N(0, `prior`) against 0: a martingale where nothing differs, so that it
    is beyond 1/α in at most α of the studies, ever.
    """
    n = np.arange(least, values.shape[-1] + 1)
    total, squares = (x.cumsum(-1)[:, least - 1 :] for x in (values, values**2))
    t2 = total**2 / n / ((squares - total**2 / n) / (n - 1))
    wide = 1 + n * prior
    log = -np.log(wide) / 2 + n / 2 * (np.log1p(t2 / (n - 1)) - np.log1p(t2 / (n - 1) / wide))
    return _stopped(log >= -np.log(LEVEL), least)


def _stopped(reached: NDArray, least: int) -> tuple[NDArray, NDArray]:
    decided = reached.any(-1)
    most = least + reached.shape[-1] - 1
    return decided, np.where(decided, least + reached.argmax(-1), most)


def screening(studies: int) -> None:
    print("screening 40 comparisons, 10 of which differ by 1.5 deviations, with 8 seeds")
    true = np.repeat([0.0, 1.5], [30, 10])
    p = paired_p(draw(true, 8, min(studies, 2000)))
    for name, correct in (("Holm", holm), ("Benjamini and Hochberg", benjamini_hochberg)):
        found = correct(p) <= LEVEL
        share = (found & (true == 0)).sum(-1) / np.maximum(found.sum(-1), 1)
        print(f"  {name}: {100 * found[:, true > 0].mean():.0f}% of them found, "
              f"{100 * share.mean():.1f}% of what is found is wrong, "
              f"{100 * (found & (true == 0)).any(-1).mean():.0f}% of studies err")  # fmt: skip


def ranks(studies: int) -> None:
    print("Friedman's test with nothing different, % of studies that find something")
    for backbones, variants in ((5, 3), (5, 8), (10, 4), (10, 10)):
        rng = np.random.default_rng([backbones, variants])
        p = friedman_p(rng.normal(size=(min(studies, 4000), backbones, variants)))
        print(f"  {backbones} backbones, {variants} variants: {100 * (p <= LEVEL).mean():.1f}")


def splits(studies: int) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images / 16
    rng = np.random.default_rng(0)
    halves = rng.permutation(64).reshape(2, 32)
    studies = min(studies, 2000)
    print(f"{studies:,} studies of real digits, split anew ten times: wrong verdicts, %")
    for train, test in ((160, 40), (320, 80)):
        values = np.zeros((studies, 10))
        for study in range(studies):
            pool = rng.choice(len(images), train + test, replace=False)
            for split in range(10):
                fit, held = np.split(rng.permutation(pool), [train])
                ours, theirs = (_right(images[:, half], labels, fit, held) for half in halves)
                values[study, split] = ours - theirs
        values -= values.mean()  # what is true of all images
        paired = (paired_p(values) <= LEVEL).mean()
        corrected = (resampled_p(values, test / train) <= LEVEL).mean()
        print(f"  {train} train, {test} test: paired t {100 * paired:.1f}, "
              f"Nadeau and Bengio {100 * corrected:.1f}")  # fmt: skip


def _right(images: NDArray, labels: NDArray, fit: NDArray, held: NDArray) -> float:
    """Share of held images that least squares with a ridge has right."""
    x = np.column_stack([images[fit], np.ones(len(fit))])
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(10)[labels[fit]])
    scores = np.column_stack([images[held], np.ones(len(held))]) @ weights
    return float((scores.argmax(1) == labels[held]).mean())


if __name__ == "__main__":
    main()
