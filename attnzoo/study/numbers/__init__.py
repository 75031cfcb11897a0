"""What the runs come to: statistics, intervals, costs."""

from attnzoo.study.numbers.contrasts import (
    CONTRASTS,
    Answers,
    Contrasts,
    best_variants,
    compare_images,
    keep_contrasts,
    read_answers,
    read_contrasts,
)
from attnzoo.study.numbers.costs import COSTS, Costs, Spread, VariantCosts, read_costs
from attnzoo.study.numbers.differences import Difference, paired_difference
from attnzoo.study.numbers.imagewise import Images
from attnzoo.study.numbers.inference import MOST_SEEDS
from attnzoo.study.numbers.measure import is_measured, measure_costs
from attnzoo.study.numbers.metrics import METRICS, Measure
from attnzoo.study.numbers.pareto import COST_LABELS, COST_UNITS, cost_of, fronts, on_front
from attnzoo.study.numbers.profiles import (
    improvement,
    improvement_interval,
    profile,
    profile_band,
)
from attnzoo.study.numbers.ranks import ENOUGH, Ranks, ranked
from attnzoo.study.numbers.rules import LEVEL, Rules
from attnzoo.study.numbers.stats import (
    Summary,
    sampling_error,
    study_summaries,
    study_verdicts,
    summarise,
)
from attnzoo.study.numbers.stopping import needed_runs

__all__ = [
    "CONTRASTS",
    "COSTS",
    "COST_LABELS",
    "COST_UNITS",
    "ENOUGH",
    "LEVEL",
    "METRICS",
    "MOST_SEEDS",
    "Answers",
    "Contrasts",
    "Costs",
    "Difference",
    "Images",
    "Measure",
    "Ranks",
    "Rules",
    "Spread",
    "Summary",
    "VariantCosts",
    "best_variants",
    "compare_images",
    "cost_of",
    "fronts",
    "improvement",
    "improvement_interval",
    "is_measured",
    "keep_contrasts",
    "measure_costs",
    "needed_runs",
    "on_front",
    "paired_difference",
    "profile",
    "profile_band",
    "ranked",
    "read_answers",
    "read_contrasts",
    "read_costs",
    "sampling_error",
    "study_summaries",
    "study_verdicts",
    "summarise",
]
