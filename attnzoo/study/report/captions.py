"""What the tables and plots of a report show, in words."""

from __future__ import annotations

from collections.abc import Sequence

from attnzoo.study.definition import Study
from attnzoo.study.numbers import METRICS, Costs
from attnzoo.study.report.table import SHORT, points_text
from attnzoo.study.runs import DataRecord
from attnzoo.train import OwnData, TimmData, TorchvisionData

__all__ = ["captions", "cost_notes"]


def captions(study: Study, data: DataRecord | None) -> dict[str, str]:
    """What the tables and plots of a report show, by the part of the report."""
    several = len(study.seeds) > 1
    measure = METRICS[study.metric]
    size = points_text(study.difference_points, measure)
    spread = f", mean ± standard deviation over {len(study.seeds)} seeds" if several else ""
    cut = ", cut at 0 and 100" if measure.is_share else ""
    told = "" if measure.point == "point" else f", in {measure.points},"
    curve = {"map": "mAP", "f1": "mAP", "mae": "The loss", "r2": "The loss"}.get(
        measure.name, "Top-1"
    )
    classes = "" if data is None else f", {len(data.classes)} classes"
    return {
        "results": (
            f"{measure.told}: {measure.what}, after the last epoch{spread}. "
            + (f"95%: interval of that mean{cut}. " if several else "")
            + f"vs plain: {measure.points} over the same backbone without attention. "
            + (f"more seeds: how many it would take to see {size} with 80% chance. " * several)
            + "mean γ: how far attention has been let in; it starts at 0, where the network "
            "computes what the plain one does. seconds: of one run, on a machine that may have "
            "done other things too."
        ),
        "effects": (
            "What each variant adds to plain (filled) and, where it has one, to its control "
            "(hollow)"
            + (
                ": the mean paired difference, its 95% interval, and a dot a seed. An arrow: the "
                "interval goes on. Intervals are not corrected for the number of comparisons, "
                "verdicts are."
                if several
                else ", at one seed."
            )
            + (
                f" The band: the same, within ±{points_text(study.same_within, measure)}."
                if study.same_within is not None
                else ""
            )
        ),
        "accuracy": f"{measure.told} of every variant"
        + (": mean, and a dot a seed." if several else "."),
        "verdicts": (
            f"points: mean paired difference{told} with its 95% interval. d_z: that mean over the "
            "standard deviation of the differences; its interval is in the sentences below. p: of "
            "the paired t test, which decides once it is corrected "
            f"({SHORT[study.correction]}). p permutation: of the exact sign-flip test, which "
            "assumes no distribution; with n seeds it cannot be below 2/2ⁿ, so it is shown and "
            f"does not decide. more seeds: beyond these, to see {size} with 80% chance; “?” where "
            "all seeds differ equally. From few seeds it is a rough guess." + _same(study)
        ),
        "pareto": (
            f"{measure.told} against each cost, for each backbone. Filled and joined: the front, "
            "what no other variant beats in accuracy and cost at once. "
            + (
                "It is drawn through means: bars are the 95% intervals, and where they overlap "
                "the front may as well run through the other."
                if several
                else "It is that of one seed; another may draw it elsewhere."
            )
        ),
        "curves": f"{curve} on test images after each epoch"
        + (
            ": the mean over seeds, in a band from the lowest seed to the highest."
            if several
            else "."
        ),
        "maps": (
            "What attention does on one test picture at the end of training: spatial maps laid "
            "over the picture, mean over the channels where there is one a channel, from dark blue "
            "(lowest) to yellow (highest). Channel gates as a line, from the lowest gate to the "
            "highest. The range is below: where it is narrow, attention hardly chooses. γ: mean "
            "|γ| of the site, where it has one; near 0, the map changes next to nothing."
        ),
        "data": (
            "Cluttered digits: a real handwritten digit, enlarged and shifted, among fragments of "
            "other digits. Test digits are never seen in training, nor are their fragments. Some "
            "test images, as the network sees them:"
            if study.data.name == "cluttered-digits"
            else f"{_data_text(study)}{classes}. Some test images, as the network sees them:"
        ),
        "measures": (
            "Means over seeds. balanced: mean over the classes of the share of their images that "
            "are right. macro F1: mean over the classes of F1. loss: of classes the mean "
            "negative logarithm of the probability of the right one, in nats. calibration: "
            "expected error, the distance of confidence from the share right, over 15 bins. "
            + f"Verdicts are on {measure.told}, as was settled."
            * several
        ),
        "images": (
            (
                "Verdicts are about seeds, on these test images. points, seeds × images: the same "
                "difference, with a 95% interval that draws seeds and images anew, and so speaks "
                "of other images too; with few seeds it is too narrow. "
            )
            * several
            + "right alone: images at a seed that "
            "only the variant has right, and only the other. McNemar: p of his test of these, an "
            "image counting once over all seeds; it takes the seeds as they are. Nothing here "
            "is corrected, or decides."
        ),
        "classes": (
            "Share of each class's test images that are right, mean over seeds: plain, and the "
            "variant with the best mean, which chance flatters a little."
        ),
        "confusion": (
            "Where the images of a class (row) go (column), in percent, over all seeds: plain, "
            "and the variant with the best mean."
        ),
        "contrasts": (
            "Images that one of the two has right at every seed and the other at none; below each "
            "its class, and what the other mostly takes it for."
        ),
        "again": (
            "Runs that are done are not repeated; on a CPU with the same versions the numbers "
            "come out the same."
        ),
    }


def _data_text(study: Study) -> str:
    data = study.data
    if isinstance(data, TorchvisionData | TimmData):
        return f"{data.name}'s {data.dataset}" if data.dataset else "Images from a folder"
    if isinstance(data, OwnData):
        return f"What {data.function} returns"
    return f"Images from a {data.name}"


def _same(study: Study) -> str:
    if study.same_within is None:
        return ""
    margin = f"±{points_text(study.same_within, METRICS[study.metric])}"
    return (
        f" Behind the stroke, p is of two one-sided t tests at {margin}, corrected, which decides "
        "on same; and more seeds are to show with 80% chance that two which do not differ are the "
        "same. worse / same / better, %: the probabilities that the true difference is "
        f"worse than {margin}, within it, and better, if all values were equally likely before; "
        "of that comparison alone, and they do not decide."
    )


def cost_notes(costs: Costs | None, backbones: Sequence[str]) -> list[str]:
    """How the costs were counted and measured, and what is missing."""
    said = [
        "★: on the Pareto front by that cost: no other variant of the backbone is at least as "
        "accurate and as cheap, and better in one. MACs: multiply-accumulates of one image."
    ]
    taken = [entry for entry in costs.backbones if entry.backbone in backbones] if costs else []
    if any(entry.variants for entry in taken):
        said.append(
            "Times are medians with quartiles, without compilation, of forward passes in eval "
            "mode, all variants of a backbone in turns. over plain: against the plain network of "
            "the same turn, which is what to go by on a shared machine. images/s: at the batch "
            "size of the training. kept: what a training step at that batch size keeps for its "
            "backward pass, counted tensor by tensor without weights and images."
        )
    if any(v.peak_bytes is not None for entry in taken for v in entry.variants):
        said.append(
            "peak: of CUDA's allocator over the forward and backward pass of that step, beyond "
            "what was there before."
        )
    said += [
        f"{entry.backbone} was not measured: {entry.failed}" for entry in taken if entry.failed
    ]
    if not taken:
        said.append("Latency, throughput and memory were not measured.")
    return said
