"""The changes surgery can make to a module tree: each applies, and undoes itself exactly.

An edit names modules by path, not by reference, so that the record of it stays true after a
`deepcopy` or a `pickle` of the model.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from attnzoo.hosts import (
    Attended,
    Attention,
    Replaced,
    attend_output,
    get_module,
    input_hook,
    join,
    split,
)
from attnzoo.tracing import Where

__all__ = ["Edit", "Hook", "Insert", "Mechanism", "Replace", "Slot", "Subclass", "Wrap"]

Mechanism = Literal["slot", "insert", "hook", "wrap", "replace"]

#: Where a hooked host keeps the handles of its hooks: without them on the host, a hook that is
#: registered after unpickling would get the same number and overwrite ours.
_HANDLES = "_attnzoo_handles"


@dataclass(frozen=True)
class Slot:
    """Fill an attribute of a block that is None and that the block calls when it is not."""

    mechanism: ClassVar[Mechanism] = "slot"
    host: str
    name: str

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.host, self.name)

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in."""
        setattr(get_module(model, self.host), self.name, attention)

    def undo(self, model: nn.Module) -> None:
        """Take it out: the attribute is None again."""
        host = get_module(model, self.host)
        delattr(host, self.name)
        setattr(host, self.name, None)


@dataclass(frozen=True)
class Subclass:
    """Assign a subclass with a slot to a block of the class `original` (an import path)."""

    mechanism: ClassVar[Mechanism] = "slot"
    host: str
    name: str
    original: str
    subclass: str

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.host, self.name)

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in."""
        host = get_module(model, self.host)
        host.register_module(self.name, attention)
        host.__class__ = pkgutil.resolve_name(self.subclass)

    def undo(self, model: nn.Module) -> None:
        """Take it out: the block has its own class again."""
        host = get_module(model, self.host)
        host.__class__ = pkgutil.resolve_name(self.original)
        del host._modules[self.name]


@dataclass(frozen=True)
class Insert:
    """A new named entry beside `anchor` in a parent that runs as a plain `nn.Sequential`."""

    mechanism: ClassVar[Mechanism] = "insert"
    parent: str
    name: str
    anchor: str
    where: Where

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.parent, self.name)

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in; nothing is renumbered."""
        entries = get_module(model, self.parent)._modules
        reordered: dict[str, nn.Module | None] = {}
        for name, child in entries.items():
            if name == self.anchor and self.where == "before":
                reordered[self.name] = attention
            reordered[name] = child
            if name == self.anchor and self.where == "after":
                reordered[self.name] = attention
        entries.clear()
        entries.update(reordered)

    def undo(self, model: nn.Module) -> None:
        """Take it out."""
        del get_module(model, self.parent)._modules[self.name]


@dataclass(frozen=True)
class Hook:
    """A child of a composite module, called by a forward hook of that module."""

    mechanism: ClassVar[Mechanism] = "hook"
    host: str
    where: Where

    @property
    def name(self) -> str:
        """The child's name, which the hook functions spell out."""
        return "attn_in" if self.where == "before" else "attn_out"

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.host, self.name)

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in."""
        host = get_module(model, self.host)
        host.register_module(self.name, attention)
        if self.where == "before":
            handle = host.register_forward_pre_hook(input_hook(host))
        else:
            handle = host.register_forward_hook(attend_output)
        host.__dict__.setdefault(_HANDLES, {})[self.name] = handle

    def undo(self, model: nn.Module) -> None:
        """Take it out: the host has neither the child nor the hook."""
        host = get_module(model, self.host)
        handles = host.__dict__[_HANDLES]
        handles.pop(self.name).remove()
        if not handles:
            del host.__dict__[_HANDLES]
        del host._modules[self.name]


@dataclass(frozen=True)
class Wrap:
    """`Attended` in a layer's place, under every name at which the layer is registered."""

    mechanism: ClassVar[Mechanism] = "wrap"
    hosts: tuple[str, ...]
    where: Where

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.hosts[0], "attention")

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in."""
        host = get_module(model, self.hosts[0])
        _set_all(model, self.hosts, _in_mode(Attended(host, attention, self.where), host))

    def undo(self, model: nn.Module) -> None:
        """Take it out: the layer stands in its place again."""
        wrapper = get_module(model, self.hosts[0])
        assert isinstance(wrapper, Attended)
        _set_all(model, self.hosts, wrapper.host)


@dataclass(frozen=True)
class Replace:
    """`Replaced` in a module's place, under every name at which the module is registered."""

    mechanism: ClassVar[Mechanism] = "replace"
    hosts: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.hosts[0], "attention")

    def apply(self, model: nn.Module, attention: Attention) -> None:
        """Put `attention` in."""
        host = get_module(model, self.hosts[0])
        _set_all(model, self.hosts, _in_mode(Replaced(host, attention), host))

    def undo(self, model: nn.Module) -> None:
        """Take it out: the module is back."""
        wrapper = get_module(model, self.hosts[0])
        assert isinstance(wrapper, Replaced)
        _set_all(model, self.hosts, wrapper.original)


Edit = Slot | Subclass | Insert | Hook | Wrap | Replace


def _set_all(model: nn.Module, paths: tuple[str, ...], module: nn.Module) -> None:
    parents = [(get_module(model, split(path)[0]), split(path)[1]) for path in paths]
    for parent, name in parents:
        parent._modules[name] = module


def _in_mode(wrapper: nn.Module, host: nn.Module) -> nn.Module:
    """The wrapper alone in the host's train or eval mode; what it holds is in its own already."""
    wrapper.training = host.training
    return wrapper
