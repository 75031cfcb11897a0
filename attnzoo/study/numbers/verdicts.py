"""The comparisons of a study, judged together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from attnzoo.study.numbers.corrections import benjamini_hochberg, holm, shared
from attnzoo.study.numbers.differences import Difference, Verdict
from attnzoo.study.numbers.equivalence import seeds_for_same
from attnzoo.study.numbers.inference import seeds_needed
from attnzoo.study.numbers.rules import LEVEL, Rules

__all__ = ["corrected", "judged"]


def judged(
    found: Sequence[Difference], lost: Sequence[tuple[int, int]], rules: Rules
) -> list[Difference]:
    """The comparisons of a study with their verdicts.

    Args:
        found: all of them, each with a p.
        lost: of each, how many runs diverged: the variant's, and those of what it is compared with.
        rules: what was settled beforehand.
    """
    if not found:
        return []
    margin = rules.margin is not None
    told = [1.0 if d.p_same is None else d.p_same for d in found] if margin else None
    different, same = corrected([1.0 if d.p is None else d.p for d in found], told, rules)
    alpha = LEVEL / max(len(found), rules.comparisons)
    return [
        replace(
            difference,
            p_corrected=p,
            p_same_corrected=p_same,
            verdict=_verdict(rules.measure.sign * difference.mean, p, p_same, *gone),
            more_seeds=_more(difference, rules.size, seeds_needed, alpha, rules.shared),
            more_for_same=_more(difference, rules.margin, seeds_for_same, alpha, rules.shared),
        )
        for difference, p, p_same, gone in zip(
            found, different, same or [None] * len(found), lost, strict=True
        )
    ]


def corrected(
    different: Sequence[float], same: Sequence[float] | None, rules: Rules
) -> tuple[list[float], list[float] | None]:
    """P of all comparisons after the correction: of a difference, and of being the same."""
    count = len(different)
    # Those that have not begun count as well: 1 is what is known of them.
    unbegun = [1.0] * (rules.comparisons - count)
    p = [*different, *unbegun]
    if same is None:
        correct = holm if rules.correction == "holm" else benjamini_hochberg
        return correct(p)[:count].tolist(), None
    p_same = [*same, *unbegun]
    if rules.correction == "holm":
        both = shared(p, p_same)
    else:  # each kind of verdict has its own share of wrong ones
        both = benjamini_hochberg(p), benjamini_hochberg(p_same)
    return both[0][:count].tolist(), both[1][:count].tolist()


def _verdict(
    gain: float, p: float, p_same: float | None, diverged: int, baseline_diverged: int
) -> Verdict:
    # Where diverged runs were left out, those that remain flatter their side.
    if p <= LEVEL:
        if gain > 0:
            return "no evidence" if diverged else "better"
        return "no evidence" if baseline_diverged else "worse"
    small = p_same is not None and p_same <= LEVEL
    return "same" if small and not diverged and not baseline_diverged else "no evidence"


def _more(
    difference: Difference,
    size: float | None,
    needed: Callable[..., int | None],
    alpha: float,
    shared: float,
) -> int | None:
    """Seeds beyond those there are, or None where that is not known or too many."""
    if size is None or difference.deviation is None:
        return None
    count = needed(difference.deviation, size, alpha, shared=shared)
    return None if count is None else max(count - difference.seeds, 0)
