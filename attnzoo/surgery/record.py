"""What was done to a model, as it is written down on the model itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from attnzoo.hosts import Attention, join, named, warn_of_graphs
from attnzoo.surgery.edits import Edit
from attnzoo.surgery.recipe import Recipe
from attnzoo.tracing import Site

__all__ = ["RECORD", "Operation", "attention_modules", "operations", "recipes"]

#: Where a model keeps the record of what was done to it: a tuple of `Operation`s.
RECORD = "_attnzoo_operations"


@dataclass(frozen=True)
class Operation:
    """What one `wrap` did: the recipe, the sites it found, the edits it made.

    `step` is higher than that of all attention that was there before: edits may stand on others,
    made through the whole model or a part of it, and are undone the other way round.
    """

    recipe: Recipe
    sites: tuple[Site, ...]
    edits: tuple[Edit, ...]
    step: int = 1


def operations(model: nn.Module) -> tuple[tuple[str, Operation], ...]:
    """`(path of the module that was wrapped, what was done)`, in order.

    Paths are those in the network itself, whatever stands around it.
    """
    done = (
        (path, operation)
        for path, module in named(model)
        for operation in module.__dict__.get(RECORD, ())
    )
    return tuple(sorted(done, key=lambda item: item[1].step))


def recipes(model: nn.Module) -> list[Recipe]:
    """The recipes that were applied to the model, in order; empty for a plain one."""
    return [operation.recipe for _, operation in operations(model)]


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Path → attention block, for every block that attnzoo put in; empty for a plain model.

    Paths are those in the network itself, also where it was compiled or made parallel since. What
    `torch.fx` or an exporter made of it holds none; that is said by a warning.
    """
    found = {
        join(path, "block"): module.block
        for path, module in named(model)
        if isinstance(module, Attention)
    }
    if not found:
        warn_of_graphs(model)
    return found
