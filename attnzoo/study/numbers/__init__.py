"""What the runs come to: statistics, intervals, costs."""

from attnzoo.study.numbers.costs import COSTS, Costs, Spread, VariantCosts, read_costs
from attnzoo.study.numbers.inference import MOST_SEEDS
from attnzoo.study.numbers.measure import is_measured, measure_costs
from attnzoo.study.numbers.pareto import COST_LABELS, COST_UNITS, cost_of, fronts, on_front
from attnzoo.study.numbers.stats import (
    Difference,
    Summary,
    paired_difference,
    sampling_error,
    summarise,
)

__all__ = [
    "COSTS",
    "COST_LABELS",
    "COST_UNITS",
    "MOST_SEEDS",
    "Costs",
    "Difference",
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
