"""Attention switched off and on where it stands: for a comparison, or one of several at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from torch import nn

from attnzoo.checks import did_you_mean
from attnzoo.errors import NotWrappedError, UnknownNameError
from attnzoo.hosts import Attention, check_module

__all__ = ["disabled", "insertions", "switch"]


def insertions(model: nn.Module) -> dict[str, bool]:
    """Name of each insertion (`wrap(…, name=)`) → whether it is on, in the order of the network.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se", name="a")
        >>> attnzoo.insertions(model)
        {'a': True}
    """
    return _by_name(_attention_in(model))


def switch(model: nn.Module, name: str | Iterable[str] | None) -> nn.Module:
    """Let one insertion act, or several, and no other: nothing is loaded, moved or forgotten.

    What is off runs nothing and has no gradient; the network computes bit for bit what it would
    without it. A compiled network is compiled anew the first time.

    Args:
        model: a model with attention, changed in place and returned.
        name: of an insertion, or several names; None switches all attention off.

    Raises:
        NotWrappedError: the model holds no attention.
        UnknownNameError: it has no insertion of that name.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se", name="a")
        >>> stacked = ("in-residual", {"occupied": "stack"})
        >>> model = attnzoo.wrap(model, stacked, "eca", name="b")
        >>> attnzoo.insertions(attnzoo.switch(model, "b"))
        {'a': False, 'b': True}
    """
    wanted = {name} if isinstance(name, str) else set(name or ())
    found = _attention_in(model)
    there = _by_name(found)
    if not there:
        raise NotWrappedError(f"{type(model).__name__} holds no attention.")
    for unknown in sorted(wanted - there.keys()):
        raise UnknownNameError(
            f"switch: {type(model).__name__} has no insertion {unknown!r}, but "
            f"{', '.join(map(repr, there))}.{did_you_mean(unknown, list(there))}"
        )
    for attention in found:
        attention.enabled = attention.insertion in wanted
    return model


@contextmanager
def disabled(model: nn.Module) -> Generator[nn.Module]:
    """Within it, the model runs as if it had no attention; afterwards as before.

    Raises:
        NotWrappedError: the model holds no attention.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> model = torchvision.models.resnet18().eval()
        >>> x = torch.randn(1, 3, 64, 64)
        >>> plain = model(x)
        >>> model = attnzoo.wrap(model, "in-residual", "se", start="paper")
        >>> with attnzoo.disabled(model):
        ...     torch.equal(model(x), plain)
        True
    """
    before = {attention: attention.enabled for attention in _attention_in(model)}
    switch(model, None)
    try:
        yield model
    finally:
        for attention, enabled in before.items():
            attention.enabled = enabled


def _by_name(found: Iterable[Attention]) -> dict[str, bool]:
    on: dict[str, bool] = {}
    for attention in found:
        on[attention.insertion] = on.get(attention.insertion, False) or attention.enabled
    return on


def _attention_in(model: nn.Module) -> list[Attention]:
    """In the order of the network. Not by `modules()`, whose generators take most of the time."""
    check_module(model)
    found: list[Attention] = []
    seen: set[int] = set()
    ahead: list[nn.Module | None] = [model]
    while ahead:
        module = ahead.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        if isinstance(module, Attention):
            found.append(module)
        ahead.extend(reversed(module._modules.values()))
    return found
