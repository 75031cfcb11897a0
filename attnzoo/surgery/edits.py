"""The changes surgery can make to a module tree; `removal` takes back what they put in.

An edit names modules by path, not by reference, so that the record of it stays true after a
`deepcopy` or a `pickle` of the model.
"""

from __future__ import annotations

import pkgutil
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from attnzoo.hosts import Attended, Attention, Replaced, attend_output, input_hook, join, split
from attnzoo.surgery.changes import Changes
from attnzoo.tracing import Where

__all__ = ["HANDLES", "Edit", "Hook", "Insert", "Mechanism", "Replace", "Slot", "Subclass", "Wrap"]

Mechanism = Literal["slot", "insert", "hook", "wrap", "replace"]

#: Where a hooked host keeps the handles of its hooks: without them on the host, a hook that is
#: registered after unpickling would get the same number and overwrite ours.
HANDLES = "_attnzoo_handles"


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

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in."""
        host = changes.get(self.host)
        changes.drop_attribute(host, self.name)
        changes.put(host, self.name, attention)


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

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in."""
        host = changes.get(self.host)
        changes.put(host, self.name, attention)
        changes.set_class(host, pkgutil.resolve_name(self.subclass))


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

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in; nothing is renumbered."""
        parent = changes.get(self.parent)
        entries: dict[str, nn.Module | None] = {}
        for name, child in changes.children(parent).items():
            if name == self.anchor and self.where == "before":
                entries[self.name] = attention
            entries[name] = child
            if name == self.anchor and self.where == "after":
                entries[self.name] = attention
        changes.set_children(parent, entries)


@dataclass(frozen=True)
class Hook:
    """A child of a composite module, called by a forward hook of that module.

    Code that `torch.compile` made before takes it that hooks don't change. But it looks whether the
    children are still in the same kind of dict, so they are put into another one.
    """

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

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in."""
        host = changes.get(self.host)
        changes.put(host, self.name, attention)
        changes.set_kind(host, OrderedDict)
        if self.where == "before":
            handle = changes.add_hook(host, "_forward_pre_hooks", input_hook(host))
        else:
            handle = changes.add_hook(host, "_forward_hooks", attend_output)
        handles = changes.attribute(host, HANDLES, {})
        changes.set_attribute(host, HANDLES, {**handles, self.name: handle})


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

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in."""
        host = changes.get(self.hosts[0])
        wrapper = _in_mode(Attended(host, attention, self.where), host)
        _put_at_all(changes, self.hosts, wrapper)


@dataclass(frozen=True)
class Replace:
    """`Replaced` in a module's place, under every name at which the module is registered."""

    mechanism: ClassVar[Mechanism] = "replace"
    hosts: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the attention is afterwards."""
        return join(self.hosts[0], "attention")

    def apply(self, changes: Changes, attention: Attention) -> None:
        """Put `attention` in."""
        host = changes.get(self.hosts[0])
        _put_at_all(changes, self.hosts, _in_mode(Replaced(host, attention), host))


Edit = Slot | Subclass | Insert | Hook | Wrap | Replace


def _put_at_all(changes: Changes, paths: tuple[str, ...], module: nn.Module) -> None:
    parents = [(changes.get(split(path)[0]), split(path)[1]) for path in paths]
    for parent, name in parents:
        changes.put(parent, name, module)


def _in_mode(wrapper: nn.Module, host: nn.Module) -> nn.Module:
    """The wrapper alone in the host's train or eval mode; what it holds is in its own already."""
    wrapper.training = host.training
    return wrapper
