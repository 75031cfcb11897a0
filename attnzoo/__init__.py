"""attnzoo: attention for any CNN, in one line, without breaking what the network knows."""

from attnzoo import blocks as blocks
from attnzoo.api import plan, wrap
from attnzoo.plan import Plan
from attnzoo.recipe import Recipe
from attnzoo.registry import (
    create_block,
    list_blocks,
    list_policies,
    register_block,
    register_policy,
)
from attnzoo.surgery import attention_modules, recipes, unwrap

__version__ = "0.1.0"
__all__ = [
    "Plan",
    "Recipe",
    "attention_modules",
    "create_block",
    "list_blocks",
    "list_policies",
    "plan",
    "recipes",
    "register_block",
    "register_policy",
    "unwrap",
    "wrap",
]
