"""What stands around a network while it runs: compiled, parallel, averaged. Names look past it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from attnzoo.hosts.tree import check_module, join, modules_by_path, walk

__all__ = ["AROUND", "PlainNames", "bare", "named"]

#: Class → the child that is the network. By name, so that none of them has to be imported.
AROUND = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": (
        "_fsdp_wrapped_module"
    ),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": (
        "_checkpoint_wrapped_module"
    ),
    "torch.optim.swa_utils.AveragedModel": "module",
    "timm.utils.model_ema.ModelEma": "module",
    "timm.utils.model_ema.ModelEmaV2": "module",
    "timm.utils.model_ema.ModelEmaV3": "module",
    "lightning_fabric.wrappers._FabricModule": "_original_module",
    "lightning.fabric.wrappers._FabricModule": "_original_module",
}


def bare(model: nn.Module) -> nn.Module:
    """The network itself, without what stands around it.

    Raises:
        UnsupportedModelError: it is no module.
    """
    check_module(model)
    while (name := _inside(model)) is not None:
        model = model.get_submodule(name)
    return model


def named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`named_modules` of the network itself, as if nothing stood around it or its parts."""
    root = bare(model)
    names = PlainNames(root)
    for path, module in modules_by_path(root).items():
        if _inside(module) is None:
            yield names.plain(path), module


class PlainNames:
    """Paths and keys of a module tree as they are without what stands around its parts."""

    def __init__(self, root: nn.Module) -> None:
        any_there = any(_inside(module) is not None for _, module in walk(root))
        around = ((path, _inside(module)) for path, module in walk(root) if any_there)
        found = [(f"{join(path, name)}.", path) for path, name in around if name is not None]
        self._cuts = sorted(found, key=lambda cut: -len(cut[0]))

    def plain(self, path: str) -> str:
        """`"layer1._orig_mod.0.weight"` → `"layer1.0.weight"`."""
        for whole, short in self._cuts:  # the innermost first
            if f"{path}.".startswith(whole):
                path = join(short, path[len(whole) :]).rstrip(".")
        return path


def _inside(module: nn.Module) -> str | None:
    """The name of the child that the module stands around."""
    for cls in type(module).__mro__:
        name = AROUND.get(f"{cls.__module__}.{cls.__qualname__}")
        if name is not None and module._modules.get(name) is not None:
            return name
    return None
