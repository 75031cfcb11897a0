"""What holds attention in a network: wrappers, hooks, slots, and the tree they stand in."""

from attnzoo.hosts.around import AROUND, PlainNames, bare, named
from attnzoo.hosts.attention import Attended, Attention, Replaced, Start
from attnzoo.hosts.graphs import warn_of_graphs
from attnzoo.hosts.hooks import attend_first_input, attend_input, attend_output, input_hook
from attnzoo.hosts.pretrained import is_of_transformers, warn_of_unfilled
from attnzoo.hosts.shards import cut_like, is_sharded, whole
from attnzoo.hosts.slots import SLOTS
from attnzoo.hosts.source import REBUILDING, reads_positions, rebuilds, run_otherwise
from attnzoo.hosts.tree import (
    check_module,
    get_module,
    has_attribute,
    join,
    modules_by_path,
    parameters_by_name,
    paths_by_module,
    prefixes,
    split,
    tensors_below,
    walk,
)

__all__ = [
    "AROUND",
    "REBUILDING",
    "SLOTS",
    "Attended",
    "Attention",
    "PlainNames",
    "Replaced",
    "Start",
    "attend_first_input",
    "attend_input",
    "attend_output",
    "bare",
    "check_module",
    "cut_like",
    "get_module",
    "has_attribute",
    "input_hook",
    "is_of_transformers",
    "is_sharded",
    "join",
    "modules_by_path",
    "named",
    "parameters_by_name",
    "paths_by_module",
    "prefixes",
    "reads_positions",
    "rebuilds",
    "run_otherwise",
    "split",
    "tensors_below",
    "walk",
    "warn_of_graphs",
    "warn_of_unfilled",
    "whole",
]
