"""What a study's numbers allow to say, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence

from attnzoo.study.folder import DataRecord
from attnzoo.study.grid import Study
from attnzoo.study.stats import Difference, Summary, sampling_error
from attnzoo.study.table import comparisons, difference_text, more_seeds_text, p_text, points_text

__all__ = ["caveats", "verdicts"]


def caveats(
    study: Study, rows: Sequence[Summary], data: DataRecord | None, *, done: int
) -> list[str]:
    """Paragraphs to be read before the numbers; `done` runs of the study are there."""
    said = []
    if done < len(study.runs) and len(study.seeds) > 1:
        said.append(
            f"The study is not finished, {done} of {len(study.runs)} runs are done, and verdicts "
            "may change: they count when it is. Stopping at one that pleases finds too much."
        )
    if len(study.seeds) == 1:
        said.append(
            "One seed a variant: this shows that the networks learn, and roughly how well. It is "
            "no verdict on which attention is better: another seed may turn the order round. "
            "Write several seeds into the study, such as seeds: [0, 1, 2, 3, 4], for differences "
            "with an interval."
        )
    else:
        said.append(
            "Differences are paired: at one seed all variants of a backbone start from the same "
            "weights and see the same batches. The bracket is the 95% interval of the mean "
            "difference by Student's t, of that comparison alone. The verdict is stricter: the "
            "paired t test at 5% after Holm's correction over all "
            f"{len(comparisons(rows))} comparisons of this study. No evidence means just that, "
            "not that there is no difference: see how many more seeds it would take."
        )
        if any(row.diverged for row in rows):
            said.append(
                "A seed at which a run diverged is no pair. What diverged is not called better, "
                "however good its other seeds are."
            )
    shown = [row.top1 for row in rows if row.top1 is not None]
    if data and shown:
        worst = max(sampling_error(top1, data.test) for top1 in shown)
        said.append(
            f"There are {data.test} test images, so each accuracy is uncertain by about "
            f"±{200 * worst:.1f} points (two standard errors) from that alone."
        )
    return said


def verdicts(study: Study, rows: Sequence[Summary]) -> list[tuple[str, str]]:
    """`(verdict, sentence)` of every comparison that has one: better first, then worse."""
    order = ("better", "worse", "no evidence")
    found = [
        (difference.verdict, _sentence(study, row, difference))
        for row, difference in comparisons(rows)
        if difference.verdict
    ]
    return sorted(found, key=lambda pair: order.index(pair[0]))


def _sentence(study: Study, row: Summary, difference: Difference) -> str:
    text = (
        f"{row.backbone}, {row.variant} against {difference.baseline}: "
        f"{difference_text(difference)} points over {difference.seeds} seeds, "
        f"p {p_text(difference)} after Holm"
    )
    if difference.verdict != "no evidence":
        return f"{text}."
    if difference.more_seeds is None and not difference.deviation:
        return f"{text}; all seeds differ equally, which tells nothing of their spread."
    size = points_text(study.difference_points)
    if difference.more_seeds == 0:
        return f"{text}; so many seeds see {size} with 80% chance."
    more = more_seeds_text(difference)
    noun = "seed" if more == "1" else "seeds"
    return f"{text}; it takes {more} more {noun} to see {size} with 80% chance."
