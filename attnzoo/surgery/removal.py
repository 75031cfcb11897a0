"""Taking attention out of a module tree, however it stands there by now.

What was put in is found again by what holds it and not by where it was, so that it comes out as
well after the network was cut, renamed, copied or put into another one.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Iterable

from torch import nn

from attnzoo.errors import NotWrappedError, SiteError, UnknownNameError
from attnzoo.hosts import (
    SLOTS,
    Attended,
    Attention,
    Replaced,
    attend_first_input,
    attend_input,
    attend_output,
    check_module,
    get_module,
    paths_by_module,
)
from attnzoo.surgery.changes import Changes, HookKind
from attnzoo.surgery.edits import HANDLES
from attnzoo.surgery.fusing import unfuse_in
from attnzoo.surgery.record import RECORD, Operation
from attnzoo.tracing import qualname, undisturbed

__all__ = ["take_out", "take_out_of", "unwrap"]

#: Name of a hooked child → where the hook is that runs it, and what it may be.
_HOOKS: dict[str, tuple[HookKind, tuple[object, ...]]] = {
    "attn_in": ("_forward_pre_hooks", (attend_input, attend_first_input)),
    "attn_out": ("_forward_hooks", (attend_output,)),
}
#: Class with a slot of ours → the class that it stands for.
_ORIGINALS = {slot.subclass: original for original, slot in SLOTS.items() if slot.subclass}


@undisturbed
def unwrap(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take all attention out again, or one insertion; the model is changed in place and returned.

    Module types, state-dict keys, their order and the outputs are those from before `wrap`. A
    fused model is unfused first. All of it happens in one step, or none.

    Where modules were renamed or moved since, attention comes out all the same. Where some were
    cut out or replaced, a warning says which attention went with them.

    Args:
        model: the model that was wrapped, or one around it.
        name: of the insertion (`wrap(…, name=)`) to take out; other attention stays where it is.

    Raises:
        NotWrappedError: if neither the model nor a module in it was wrapped.
        UnknownNameError: no insertion has that name.

    Example:
        >>> import attnzoo, torchvision
        >>> model = torchvision.models.resnet18()
        >>> keys = list(model.state_dict())
        >>> list(attnzoo.unwrap(attnzoo.wrap(model, "post-residual")).state_dict()) == keys
        True
    """
    check_module(model)
    wrapped = [module for module in paths_by_module(model) if RECORD in module.__dict__]
    if not wrapped:
        inside = any(isinstance(module, Attention) for module in paths_by_module(model))
        raise NotWrappedError(
            f"{type(model).__name__} holds no attention that attnzoo.wrap put in"
            + (" through it: a module around it was wrapped. Unwrap that one." if inside else ".")
        )
    names = {op.recipe.name for module in wrapped for op in vars(module)[RECORD]}
    if name is not None and name not in names:
        raise UnknownNameError(
            f"unwrap: {type(model).__name__} has no insertion {name!r}, but "
            f"{', '.join(map(repr, sorted(names)))}."
        )
    changes = Changes(model)
    unfuse_in(changes)
    found: dict[Attention, None] = {}
    for module in wrapped:
        record: tuple[Operation, ...] = vars(module)[RECORD]
        operations = {op.step: op for op in record if name in (None, op.recipe.name)}
        there = [
            part
            for part in paths_by_module(module)
            if isinstance(part, Attention) and part.step in operations
        ]
        found.update(dict.fromkeys(there))
        for operation in operations.values():
            _say_what_is_gone(module, operation, there)
        kept = tuple(op for op in record if op.step not in operations)
        if kept:
            changes.set_attribute(module, RECORD, kept)
        else:
            changes.drop_attribute(module, RECORD)
    take_out(changes, found)
    changes.commit()
    return model


def take_out_of(model: nn.Module, attentions: Iterable[Attention]) -> None:
    """Some attention out of a model, in one step; where none of a `wrap` is left, so is its record.

    Args:
        model: holds them.
        attentions: in any order.
    """
    gone = dict.fromkeys(attentions)
    changes = Changes(model)
    for module in model.modules():
        if RECORD in vars(module):
            inside = (m for m in module.modules() if isinstance(m, Attention) and m not in gone)
            steps = {attention.step for attention in inside}
            kept = tuple(op for op in vars(module)[RECORD] if op.step in steps)
            if kept:
                changes.set_attribute(module, RECORD, kept)
            else:
                changes.drop_attribute(module, RECORD)
    take_out(changes, gone)
    changes.commit()


def _say_what_is_gone(module: nn.Module, operation: Operation, there: list[Attention]) -> None:
    count = len(operation.edits) - sum(a.step == operation.step for a in there)
    if count > 0:
        paths = [edit.path for edit in operation.edits if not _is_at(module, edit.path, there)]
        shown = ", ".join(paths[:8]) + (", …" if len(paths) > 8 else "")
        warnings.warn(
            f"{count} of {len(operation.edits)} attentions of {operation.recipe} are no longer in "
            f"{type(module).__name__}: modules were cut out or replaced since. Nothing is left to "
            f"take out at {shown}.",
            stacklevel=2,
        )


def _is_at(module: nn.Module, path: str, there: list[Attention]) -> bool:
    try:
        return get_module(module, path) in there
    except SiteError:
        return False


def take_out(changes: Changes, attentions: Iterable[Attention]) -> None:
    """Everything as it was before these were put in; other attention keeps its place.

    Args:
        changes: of the tree that holds them, the root of which none of them is.
        attentions: in any order.
    """
    holders = _Holders(changes)
    for attention in attentions:
        for parent, name in list(holders.of(attention)):
            _release(changes, holders, attention, parent, name)


class _Holders:
    """Module → the modules that will hold it, and under which names."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._held: dict[nn.Module, list[tuple[nn.Module, str]]] = {changes.root: []}
        waiting = [changes.root]
        while waiting:
            parent = waiting.pop()
            for name, child in changes.children(parent).items():
                if child is not None:
                    if child not in self._held:
                        self._held[child] = []
                        waiting.append(child)
                    self._held[child].append((parent, name))

    def of(self, module: nn.Module) -> list[tuple[nn.Module, str]]:
        return self._held.get(module, [])

    def put(self, parent: nn.Module, name: str, child: nn.Module) -> None:
        """A child in the place of another."""
        self._changes.put(parent, name, child)
        self._held.setdefault(child, []).append((parent, name))

    def replace(self, module: nn.Module, other: nn.Module) -> None:
        """The other one in its place, everywhere."""
        places = self._held.pop(module, [])
        for parent, name in places:
            self._changes.put(parent, name, other)
        kept = [place for place in self._held.get(other, []) if place[0] is not module]
        self._held[other] = kept + places


def _release(
    changes: Changes, holders: _Holders, attention: Attention, parent: nn.Module, name: str
) -> None:
    """One holder of attention goes on without it."""
    if isinstance(parent, Attended) and name == "host":
        _release_attended(changes, holders, parent)
    elif isinstance(parent, Attended):
        holders.replace(parent, _child(changes, parent, "host"))
    elif isinstance(parent, Replaced):
        holders.replace(parent, parent.original)
    elif name in _HOOKS:
        _unhook(changes, parent, name)
    elif qualname(type(parent)) in _ORIGINALS:
        changes.set_class(parent, pkgutil.resolve_name(_ORIGINALS[qualname(type(parent))]))
        changes.take(parent, name)
    elif type(parent).forward is nn.Sequential.forward:
        changes.take(parent, name)
    elif qualname(type(parent)) in SLOTS:
        changes.take(parent, name)
        changes.set_attribute(parent, name, None)
    else:  # somebody moved it there: nothing else would keep the code around it running
        changes.put(parent, name, nn.Identity())


def _release_attended(changes: Changes, holders: _Holders, wrapper: Attended) -> None:
    """Attention that has attention around it: that takes its place, and what it was in place of."""
    outermost: nn.Module = wrapper
    while True:
        ((holder, name), *_) = holders.of(outermost) or [(None, "")]
        if not (isinstance(holder, Attended) and name == "host"):
            break
        outermost = holder
    if isinstance(holder, Replaced):
        holders.put(wrapper, "host", holder.original)
        holders.replace(holder, outermost)
    else:
        holders.replace(wrapper, _child(changes, wrapper, "attention"))


def _child(changes: Changes, module: nn.Module, name: str) -> nn.Module:
    child = changes.children(module)[name]
    assert child is not None
    return child


def _unhook(changes: Changes, host: nn.Module, name: str) -> None:
    kind, functions = _HOOKS[name]
    handles = dict(changes.attribute(host, HANDLES, {}))
    handle = handles.pop(name, None)
    # a copy that was made in another way may have the hook and not its handle, or neither
    hooks = getattr(host, kind).items()
    numbers = [number for number, hook in hooks if hook in functions]
    for number in numbers if handle is None else [handle.id]:
        changes.drop_hook(host, kind, number)
    changes.take(host, name)
    if handles:
        changes.set_attribute(host, HANDLES, handles)
    else:
        changes.drop_attribute(host, HANDLES)
        changes.set_kind(host, type(nn.Module()._modules))
