"""From sites to a changed model, and back: recipe, plan, edits, rehearsal."""

from attnzoo.surgery.fusing import fuse, unfuse
from attnzoo.surgery.operate import build_block
from attnzoo.surgery.optimizers import add_parameters, check_optimizer, warn_of_optimizers
from attnzoo.surgery.plan import Plan, PlannedSite, carry_out
from attnzoo.surgery.planning import make_plan
from attnzoo.surgery.recipe import Recipe, parse_recipe, sharing
from attnzoo.surgery.record import Operation, attention_modules, operations, recipes
from attnzoo.surgery.removal import take_out_of, unwrap
from attnzoo.surgery.wording import cut_short, refuse_cut_short

__all__ = [
    "Operation",
    "Plan",
    "PlannedSite",
    "Recipe",
    "add_parameters",
    "attention_modules",
    "build_block",
    "carry_out",
    "check_optimizer",
    "cut_short",
    "fuse",
    "make_plan",
    "operations",
    "parse_recipe",
    "recipes",
    "refuse_cut_short",
    "sharing",
    "take_out_of",
    "unfuse",
    "unwrap",
    "warn_of_optimizers",
]
