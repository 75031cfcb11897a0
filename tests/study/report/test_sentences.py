"""Sentences for a paper, from made-up results."""

from __future__ import annotations

from typing import Any

import pytest
from studies import STUDY, result

from attnzoo.study import Rules, Study, parse_study, summarise
from attnzoo.study.numbers.costs import BackboneCosts, Costs, Spread, VariantCosts
from attnzoo.study.report.sentences import sentences

PLAIN = [0.50, 0.52, 0.51, 0.53, 0.50]
GOOD = [0.60, 0.61, 0.61, 0.63, 0.61]
ALIKE = [0.501, 0.519, 0.510, 0.531, 0.500]
WILD = [0.52, 0.50, 0.55, 0.50, 0.51]


def asked(**changes: Any) -> Study:
    return parse_study({**STUDY, **changes})


def told(study: Study, costs: Costs | None = None, **variants: list[float]) -> list[Any]:
    runs = [
        result(variant, seed, top1)
        for variant, values in {"plain": PLAIN, **variants}.items()
        for seed, top1 in enumerate(values)
    ]
    return sentences(study, summarise(runs, rules=Rules.of(study)), costs)


def test_a_sentence_has_what_a_reviewer_asks() -> None:
    ((verdict, text),) = told(asked(), se=GOOD)
    assert verdict == "better"
    # 10, 9, 10, 10, 11 points: deviation √0.5, t = 10 / √(0.5 / 5)
    assert text == (
        "net, se against plain: +10.00 points of top-1 (95% CI [+9.12, +10.88]; n = 5 seeds, "
        "paired; paired t test, t(4) = 31.62, p < 0.001, p < 0.001 after Holm's correction over 1 "
        "comparison; d_z = 14.1 [4.87, 23.6]), at +10% parameters, +1.00% MACs."
    )


def test_better_comes_first_and_no_evidence_last() -> None:
    study = asked(same_within=0.5)
    found = told(
        study,
        wild=WILD,
        alike=ALIKE,
        bad=[2 * p - g for p, g in zip(PLAIN, GOOD, strict=True)],
        good=GOOD,
    )
    assert [verdict for verdict, _ in found] == [
        *("better", "worse", "same, within ±0.5", "no evidence"),
    ]
    assert "two one-sided t tests at ±0.5: p < 0.001, p < 0.001 after correction" in found[2][1]
    assert "to see 1 point with 80% chance. It takes" in found[3][1]
    assert "to show that two are the same within ±0.5 with 80% chance." in found[3][1]


def test_costs_are_beside_what_it_is_compared_with() -> None:
    def spread(middle: float) -> Spread:
        return Spread(median=middle, low=middle, high=middle)

    measured = [
        VariantCosts(
            variant=name,
            latency=spread(slow),
            slowdown=spread(slow),
            images_per_second=spread(1),
            saved_bytes=1,
        )
        for name, slow in (("plain", 1.0), ("se", 1.25))
    ]
    costs = Costs(
        backbones=(
            BackboneCosts(
                backbone="net",
                key="",
                device="",
                measured="",
                batch_size=1,
                size=8,
                variants=tuple(measured),
            ),
        )
    )
    ((_, text),) = told(asked(), costs, se=GOOD)
    assert text.endswith(", at +10% parameters, +1.00% MACs, ×1.25 the time for one image.")


@pytest.mark.parametrize("correction", ["holm", "fdr"])
def test_the_correction_is_named(correction: str) -> None:
    ((_, text),) = told(asked(correction=correction), se=GOOD)
    assert {"holm": "Holm's", "fdr": "Benjamini and Hochberg's"}[correction] in text


def test_equal_differences_tell_nothing_of_their_spread() -> None:
    ((verdict, text),) = told(asked(), se=PLAIN)
    assert verdict == "no evidence"
    assert text.endswith("All seeds differ equally, which tells nothing of their spread.")
