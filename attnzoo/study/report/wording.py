"""What a study's numbers allow to say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attnzoo.study.definition import Study
from attnzoo.study.numbers import METRICS, Rules, Summary, sampling_error
from attnzoo.study.report.pooling import Entry, Pool
from attnzoo.study.report.table import CORRECTIONS, comparisons, points_text
from attnzoo.study.runs import DataRecord, Failure

__all__ = [
    "capacity",
    "caveats",
    "comparison_notes",
    "failure_notes",
    "pooling_notes",
]

UNEQUAL = 0.1
"""A control whose size differs by a larger share of the attention's is pointed out."""


def _correction(study: Study, comparisons: int) -> str:
    if comparisons == 1 and study.correction == "holm":
        return "of the one comparison of this study"
    name = CORRECTIONS[study.correction]
    over = "the one comparison" if comparisons == 1 else f"all {comparisons} comparisons"
    return f"after {name} correction over {over} of this study"


def caveats(
    study: Study, rows: Sequence[Summary], data: DataRecord | None, *, done: int, planned: int
) -> list[str]:
    """Paragraphs to be read before the numbers; `done` runs of those `planned` are there."""
    said = []
    if done < planned and study.look_from is not None:
        said.append(
            f"The study is not finished, {done} runs are done. What is decided stays so; the rest "
            "is still looked at."
        )
    elif done < planned and len(study.seeds) > 1:
        said.append(
            f"The study is not finished, {done} of {planned} runs are done, and verdicts "
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
            f"paired t test at 5% {_correction(study, len(comparisons(rows)))}. No evidence means "
            "just that, not that there is no difference: see how many more seeds it would take."
        )
        said += _settled(study)
        if any(row.diverged for row in rows):
            said.append(
                "A seed at which a run diverged is no pair. What diverged is not called better, "
                "however good its other seeds are."
            )
    shown = [row.score for row in rows if row.score is not None]
    if data and shown and study.metric == "top1" and not Rules.of(study).shared:
        worst = max(sampling_error(top1, data.test) for top1 in shown)
        said.append(
            f"There are {data.test} test images, so each accuracy is uncertain by about "
            f"±{200 * worst:.1f} points (two standard errors) from that alone."
        )
    return said


def _settled(study: Study) -> list[str]:
    """What the study file settled about its verdicts beyond the usual."""
    said = []
    if study.metric != "top1":
        measure = METRICS[study.metric]
        said.append(f"The study file settled that verdicts are on {measure.told}: {measure.what}.")
    if Rules.of(study).shared:
        folds = getattr(study.data, "folds", None)
        how = f", in {folds} folds" if folds else ""
        said.append(
            f"Train and test images were drawn anew at each seed{how}, the same for all variants, "
            "so verdicts are about other images of the kind as well. Such splits share images, and "
            "differences hang together: all intervals and tests here take the variance of a mean "
            "by 1/n + test images / training images, not 1/n (Nadeau and Bengio, 2003). There is "
            "no d_z and no permutation test, which would take seeds for independent."
        )
    if study.look_from is not None:
        said.append(
            f"Verdicts were looked at after each seed from {study.look_from} to "
            f"{len(study.seeds)}, and what was decided had no further runs: its seeds are those "
            "of that look. "
            + (
                "What would hardly have been decided was given up, with no evidence. "
                if study.same_within is None
                else ""
            )
            + "The 5% are spent over the looks (Kim and DeMets, with bounds of the t test), and p "
            "is the smallest level that would have decided. What stops early stops where it looks "
            "large, so its mean and interval lean away from 0 a little."
        )
    if study.same_within is not None:
        points = points_text(study.same_within, METRICS[study.metric])
        said.append(
            f"The study file settled that variants within {points} of each other count as the "
            f"same. Same means shown to be: by two one-sided t tests at ±{points}, under the same "
            "correction as the others. Better or worse with “within” is both: it differs, and by "
            "less than that."
        )
    if study.correction == "fdr":
        said.append(
            "This study screens: of the verdicts better and worse, one in twenty is expected to "
            "be wrong"
            + (", and so of the verdicts same" if study.same_within is not None else "")
            + ". What it finds is to be claimed after a second study, with seeds of its own and "
            "Holm's correction."
        )
    return said


def capacity(study: Study, rows: Sequence[Summary]) -> list[str]:
    """Where a control is not as large as the attention that it stands in for."""
    found = {(row.backbone, row.variant): row for row in rows}
    said = []
    for row in rows:
        control = found.get((row.backbone, study.controlled.get(row.variant, "")))
        if control is None or row.added_parameters is None or control.added_parameters is None:
            continue
        ours, theirs = row.added_parameters, control.added_parameters
        if abs(theirs - ours) > UNEQUAL * max(ours, 1):
            said.append(
                f"{row.backbone}, {row.variant}: the control {control.variant!r} has "
                f"{theirs:+,} parameters against {ours:+,}, so it is "
                f"{'larger' if theirs > ours else 'smaller'} than the attention."
            )
    return said


def comparison_notes(entries: Sequence[Entry]) -> list[str]:
    """Paragraphs to be read before the numbers of several studies."""
    said = [
        "Every study has its own verdicts, corrected over its own comparisons. Accuracies of two "
        "studies are about the same test images; where settings differ, so may they, and not for "
        "the sake of attention. Differences from plain are what to compare."
    ]
    for entry in entries:
        planned = len(entry.study.runs)
        if len(entry.records) < planned:
            said.append(
                f"{entry.label} is not finished, {len(entry.records)} of {planned} runs are done, "
                f"and its verdicts may change."
            )
    return said


def pooling_notes(pooled: Pool) -> list[str]:
    """What the pooled numbers are, or why there are none."""
    if not pooled.rows:
        return [
            "Nothing can be pooled: no backbone and variant is in several studies with the same "
            "settings."
        ]
    return [
        "Runs of the same backbone, variant and settings, whichever study they are from; a seed "
        f"that several ran counts once. Verdicts are after Holm's correction over the pool's "
        f"comparisons, {len(comparisons(pooled.rows))} in number. They hold at 5% if it was "
        "settled beforehand that the studies would be pooled: to run a second study because the "
        "first found nothing, and then pool, finds too much. So does pooling what stopped because "
        "it was decided: of such studies the pool has no verdict to rely on."
    ]


def failure_notes(failures: Iterable[Failure]) -> list[str]:
    """The runs that failed, which the tables lack."""
    return [
        f"{f.backbone}, {f.variant}, seed {f.seed} failed: {f.message} The next `attnzoo ablate` "
        "tries it again."
        for f in failures
    ]
