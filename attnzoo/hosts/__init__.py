"""What holds attention in a network: wrappers, hooks, slots, and the tree they stand in."""

from attnzoo.hosts.attention import Attended, Attention, Replaced, Start
from attnzoo.hosts.hooks import attend_output, input_hook
from attnzoo.hosts.slots import SLOTS
from attnzoo.hosts.source import iterates_children, reads_positions
from attnzoo.hosts.tree import get_module, join, paths_by_module, prefixes, split, walk

__all__ = [
    "SLOTS",
    "Attended",
    "Attention",
    "Replaced",
    "Start",
    "attend_output",
    "get_module",
    "input_hook",
    "iterates_children",
    "join",
    "paths_by_module",
    "prefixes",
    "reads_positions",
    "split",
    "walk",
]
