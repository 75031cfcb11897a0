"""From sites to a changed model, and back: recipe, plan, edits, rehearsal."""

from attnzoo.surgery.fusing import fuse, unfuse
from attnzoo.surgery.operate import (
    Operation,
    attention_modules,
    build_block,
    operations,
    recipes,
    unwrap,
)
from attnzoo.surgery.plan import Plan, PlannedSite, carry_out, make_plan
from attnzoo.surgery.recipe import Recipe, parse_recipe

__all__ = [
    "Operation",
    "Plan",
    "PlannedSite",
    "Recipe",
    "attention_modules",
    "build_block",
    "carry_out",
    "fuse",
    "make_plan",
    "operations",
    "parse_recipe",
    "recipes",
    "unfuse",
    "unwrap",
]
