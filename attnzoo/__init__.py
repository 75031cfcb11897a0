"""attnzoo: attention for any CNN, in one line, without breaking what the network knows."""

from attnzoo import blocks as blocks
from attnzoo.api import plan, wrap
from attnzoo.checkpoint import Checkpoint, load, save
from attnzoo.costs import Cost, cost
from attnzoo.fusing import fuse, unfuse
from attnzoo.maps import AttentionMap, attention_maps, record_maps
from attnzoo.planning import Plan
from attnzoo.recipe import Recipe
from attnzoo.registry import (
    create_block,
    list_blocks,
    list_policies,
    register_block,
    register_policy,
)
from attnzoo.shrinking import ShrinkReport, shrink, sparsity_penalty
from attnzoo.surgery import attention_modules, recipes, unwrap
from attnzoo.tuning import freeze, param_groups, unfreeze
from attnzoo.weights import LoadReport, backbone_state_dict, load_backbone

__version__ = "0.1.0"
__all__ = [
    "AttentionMap",
    "Checkpoint",
    "Cost",
    "LoadReport",
    "Plan",
    "Recipe",
    "ShrinkReport",
    "attention_maps",
    "attention_modules",
    "backbone_state_dict",
    "cost",
    "create_block",
    "freeze",
    "fuse",
    "list_blocks",
    "list_policies",
    "load",
    "load_backbone",
    "param_groups",
    "plan",
    "recipes",
    "record_maps",
    "register_block",
    "register_policy",
    "save",
    "shrink",
    "sparsity_penalty",
    "unfreeze",
    "unfuse",
    "unwrap",
    "wrap",
]
