"""Insertion policies: pure functions from a trace to sites. Importing this registers them all."""

from attnzoo.policies import auto as auto
from attnzoo.policies import generic as generic
from attnzoo.policies import named as named
from attnzoo.policies import pyramids as pyramids
from attnzoo.policies.filters import FILTERS
from attnzoo.policies.selection import (
    PolicyCall,
    PolicyLike,
    Selection,
    parse_policies,
    select,
)

__all__ = ["FILTERS", "PolicyCall", "PolicyLike", "Selection", "parse_policies", "select"]
