"""What the module tree says about its modules, taken down before a forward pass."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from attnzoo.hosts import rebuilds
from attnzoo.tracing.parts import Kind, ModuleInfo, qualname

__all__ = ["module_infos"]


@dataclass(frozen=True, slots=True)
class _ClassInfo:
    """What the class of a module says about it: its kind depends on whether it has children."""

    name: str
    qualname: str
    alone: Kind
    with_children: Kind
    is_attention: bool
    rebuilds: bool


@functools.cache
def _class_info(cls: type[nn.Module]) -> _ClassInfo:
    containers = (nn.Module, nn.Sequential)
    layers = [base for base in cls.__mro__ if base.__module__.startswith("torch.nn.modules")]
    alone: Kind = "leaf"
    with_children: Kind = "composite"
    if issubclass(cls, nn.ModuleList | nn.ModuleDict):
        alone = with_children = "container"
    elif issubclass(cls, nn.Sequential) and cls.forward is nn.Sequential.forward:
        alone = with_children = "sequential"
    elif any(base not in containers for base in layers):  # a layer of torch's own, or derived
        with_children = "leaf"
    attention = getattr(cls, "is_attnzoo_attention", False)
    name = qualname(cls)
    return _ClassInfo(cls.__name__, name, alone, with_children, attention, rebuilds(cls))


def module_infos(paths: dict[nn.Module, tuple[str, ...]]) -> dict[str, ModuleInfo]:
    state: dict[nn.Module, tuple[bool, bool]] = {}  # parameters or buffers, parameters
    infos: dict[str, ModuleInfo] = {}
    for module in reversed(paths):  # children come after their parents, so visit them first
        learned = bool(module._parameters)
        stateful = learned or bool(module._buffers)
        cls, children = _class_info(type(module)), False
        for child in module._modules.values():
            if child is not None:
                children = True
                below = state.get(child, (False, False))
                stateful, learned = stateful or below[0], learned or below[1]
        state[module] = stateful, learned
        where = paths[module]
        infos[where[0]] = ModuleInfo(
            where,
            cls.name,
            cls.qualname,
            cls.with_children if children else cls.alone,
            stateful,
            learned,
            cls.is_attention,
            children and cls.rebuilds,
        )
    return {where[0]: infos[where[0]] for where in paths.values()}
