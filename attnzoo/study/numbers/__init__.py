"""What the runs come to: statistics, intervals, costs."""

from attnzoo.study.numbers.costs import Costs, Spread, VariantCosts, read_costs
from attnzoo.study.numbers.differences import Difference, paired_difference
from attnzoo.study.numbers.inference import MOST_SEEDS
from attnzoo.study.numbers.measure import is_measured, measure_costs
from attnzoo.study.numbers.pareto import COST_LABELS, COST_UNITS, cost_of, fronts, on_front
from attnzoo.study.numbers.rules import LEVEL, Rules
from attnzoo.study.numbers.stats import Summary, sampling_error, summarise

__all__ = [
    "COST_LABELS",
    "COST_UNITS",
    "LEVEL",
    "MOST_SEEDS",
    "Costs",
    "Difference",
    "Rules",
    "Spread",
    "Summary",
    "VariantCosts",
    "cost_of",
    "fronts",
    "is_measured",
    "measure_costs",
    "on_front",
    "paired_difference",
    "read_costs",
    "sampling_error",
    "summarise",
]
