"""An optimizer that was made before attention came: the new parameters are added to it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from attnzoo.errors import OptionError
from attnzoo.hosts import parameters_by_name

__all__ = ["add_parameters", "check_optimizer", "warn_of_optimizers"]

#: What of a group is its own.
OWN = ("params", "param_names", "name", "initial_lr", "weight_decay")


def check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """That parameters of the model can be added to it.

    Raises:
        OptionError: it is no optimizer, trains nothing of the model, or has a schedule already.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise OptionError(f"optimizer={optimizer!r} must be a torch.optim.Optimizer.")
    own = {id(parameter) for parameter in parameters_by_name(model).values()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in own for parameter in held):
        raise OptionError(
            f"the {type(optimizer).__name__} trains no parameter of this "
            f"{type(model).__name__}: it was made for another model, or before this one was moved "
            f"or copied."
        )
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise OptionError(
            f"the {type(optimizer).__name__} has a learning-rate schedule already, which knows of "
            f"no new group. Make the schedule after wrap(…, optimizer=…)."
        )


def add_parameters(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, nn.Parameter]]
) -> None:
    """In groups of their own, with the options of the first one; short ones are not decayed."""
    first = optimizer.param_groups[0]
    shared = {key: value for key, value in first.items() if key not in OWN}
    new = list(named)
    for decayed in (True, False):
        part = [(name, p) for name, p in new if (p.ndim >= 2) == decayed]
        if not part:
            continue
        group = {**shared, "params": part if "param_names" in first else [p for _, p in part]}
        if "weight_decay" in first:
            group["weight_decay"] = first["weight_decay"] if decayed else 0.0
        group["name"] = "attention" if decayed else "attention-no-decay"
        optimizer.add_param_group(group)


def warn_of_optimizers(model: nn.Module, before: Iterable[nn.Parameter]) -> None:
    """Say so where an optimizer was made for the model before attention came, which it won't train.

    Args:
        model: with attention.
        before: the parameters that it had without.
    """
    if not _any_made():
        return
    known = {id(parameter) for parameter in before}
    new = {id(p) for p in parameters_by_name(model).values() if p.requires_grad} - known
    holding, training = "", False
    for optimizer in _optimizers():
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        holding = type(optimizer).__name__ if held & known else holding
        training = training or bool(held & new)
    if new and holding and not training:
        warnings.warn(
            f"the {holding} was made before attention came, and does not train it. Pass it, "
            f"wrap(…, optimizer=…), add attnzoo.param_groups of the new parameters to it, or make "
            f"the optimizer after wrap.",
            stacklevel=5,  # past what `undisturbed` adds
        )


def _any_made() -> bool:
    """Whether the process has made an optimizer: torch marks the `step` of its class then."""
    ahead: list[type] = [torch.optim.Optimizer]
    for cls in ahead:
        ahead += cls.__subclasses__()
    return any(getattr(getattr(cls, "step", None), "hooked", False) for cls in ahead)


def _optimizers() -> Iterator[torch.optim.Optimizer]:
    """All that live. By their type: `isinstance` would ask what stands for others, and wake it."""
    living = gc.get_objects()
    kinds = {kind for kind in set(map(type, living)) if issubclass(kind, torch.optim.Optimizer)}
    return (item for item in living if type(item) in kinds) if kinds else iter(())
