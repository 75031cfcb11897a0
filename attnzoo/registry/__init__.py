"""Names → blocks and names → policies: decorators, entry points, wildcard lists, closest names."""

from attnzoo.registry.names import Registry
from attnzoo.registry.register import (
    BLOCKS,
    POLICIES,
    create_block,
    list_blocks,
    list_policies,
    register_block,
    register_policy,
)
from attnzoo.registry.specs import BlockKind, BlockSpec, Limit, MapKind, PolicySpec, Tool

__all__ = [
    "BLOCKS",
    "POLICIES",
    "BlockKind",
    "BlockSpec",
    "Limit",
    "MapKind",
    "PolicySpec",
    "Registry",
    "Tool",
    "create_block",
    "list_blocks",
    "list_policies",
    "register_block",
    "register_policy",
]
