"""Where a training runs: Lightning Fabric on one device or many, and how its processes start."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from attnzoo.errors import OptionError
from attnzoo.train.extras import require
from attnzoo.train.recipe import TrainRecipe

__all__ = ["all_gathered", "launch", "trained_copy"]

SHARD_FROM = 1_000_000  # parameters of a module from which on it is a shard of its own


def launch(recipe: TrainRecipe) -> Any:
    """Fabric as the recipe wants it, its processes started.

    Under `torchrun` these are the processes there are. Otherwise, with `devices=N`, the other
    N − 1 run this program's command again.

    Raises:
        OptionError: a device, a number of devices or a precision that is not here.
        MissingExtraError: Lightning Fabric is not installed.
    """
    lightning = require("lightning_fabric", "Lightning Fabric")
    kind = _kind(recipe)
    devices, nodes = _processes(recipe, kind)
    recipe.images_a_pass(devices * nodes)
    with _quiet():
        fabric = lightning.Fabric(
            accelerator=kind,
            devices=devices,
            num_nodes=nodes,
            strategy=_strategy(recipe, devices * nodes),
            precision=_precision(recipe, kind),
        )
        fabric.launch()
    return fabric


def trained_copy(model: nn.Module, fabric: Any, example: Any) -> nn.Module:
    """What to set up for training: the model itself, or for FSDP2 a copy cut into shards.

    Args:
        model: on any device.
        fabric: from `launch`.
        example: an input of the model, to see which of its modules are called.
    """
    if not _shards(fabric):
        return model
    from attnzoo.tracing import probe

    calls = [call.path for call in probe(model, example).calls]
    once = {path for path in calls if calls.count(path) == 1}
    model = copy.deepcopy(model)
    units = [model.get_submodule(path) for path in _units(model, once)]
    fabric.strategy._parallelize_fn = _Sharding(units)
    return model


def all_gathered(fabric: Any, value: Any) -> list[Any]:
    """`value` of every process, in the order of ranks."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _kind(recipe: TrainRecipe) -> str:
    if recipe.device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        found = "cpu" if accelerator is None else accelerator.type
        return found if found in ("cuda", "mps") else "cpu"
    if recipe.device != "cpu" and not getattr(torch, recipe.device).is_available():
        raise OptionError(f"device={recipe.device!r} is not available here; leave it at 'auto'.")
    return recipe.device


def _processes(recipe: TrainRecipe, kind: str) -> tuple[int, int]:
    """Devices on this machine, and machines."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        devices, nodes = here, everywhere // here
        if recipe.devices not in (1, "auto", devices):
            raise OptionError(
                f"torchrun started {devices} processes a machine, devices={recipe.devices} asks "
                f"for another number. Leave devices out."
            )
    elif recipe.devices == "auto":
        devices, nodes = (torch.cuda.device_count() if kind == "cuda" else 1), recipe.nodes
    else:
        devices, nodes = recipe.devices, recipe.nodes
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise OptionError(f"devices={devices}: there are {torch.cuda.device_count()} GPUs here.")
    if kind == "mps" and devices * nodes > 1:
        raise OptionError(f"devices={devices}: MPS has one. Use device='cpu' for several.")
    return devices, nodes


def _precision(recipe: TrainRecipe, kind: str) -> str:
    if recipe.precision == "fp16" and kind == "cpu":
        raise OptionError(
            "precision='fp16' needs an accelerator; on a CPU use 'bf16' or leave it at 'auto'."
        )
    if recipe.precision == "fp16":
        return "16-mixed"
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and kind == "cuda")
    return "bf16-mixed" if bf16 else "32-true"


def _strategy(recipe: TrainRecipe, processes: int) -> Any:
    if recipe.strategy == "fsdp":
        strategies = require("lightning_fabric.strategies", "Lightning Fabric")
        return strategies.ModelParallelStrategy(
            nn.Module.train, data_parallel_size=processes, tensor_parallel_size=1
        )
    return "ddp" if processes > 1 or recipe.strategy == "ddp" else "auto"


def _shards(fabric: Any) -> bool:
    return hasattr(fabric.strategy, "_parallelize_fn")


class _Sharding:
    """What Fabric calls with the model and the mesh of processes: `fully_shard`, inside out."""

    def __init__(self, units: list[nn.Module]) -> None:
        self.units = units

    def __call__(self, model: nn.Module, mesh: Any) -> nn.Module:
        from torch.distributed.fsdp import fully_shard

        for module in (*self.units, model):
            fully_shard(module, mesh=mesh["data_parallel"])
        return model


def _units(model: nn.Module, called: set[str], prefix: str = "") -> list[str]:
    """Paths of the outermost large modules that run as a whole, as shards have to."""
    found = []
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if sum(p.numel() for p in child.parameters()) < SHARD_FROM:
            continue
        found += [path] if path in called else _units(child, called, f"{path}.")
    return found


@contextmanager
def _quiet() -> Generator[None]:
    """Without what Lightning says of its precision and processes each time."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
