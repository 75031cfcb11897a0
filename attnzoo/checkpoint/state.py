"""The state that a file holds: of a network, of its attention, or of what is trained in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from attnzoo.checkpoint.header import What
from attnzoo.hosts import Attention, PlainNames, modules_by_path

__all__ = ["first_names", "plain_state"]


def plain_state(model: nn.Module, what: What) -> dict[str, Any]:
    """The model's state, or that of its attention, or of what is trained, under its first names."""
    names = PlainNames(model)
    attention = {
        names.plain(f"{path}.{key}"): value
        for path, module in modules_by_path(model).items()
        if isinstance(module, Attention)
        for key, value in module.state_dict().items()
    }
    if what == "attention":
        return attention
    state = {names.plain(key): value for key, value in model.state_dict().items()}
    if what == "all":
        return state
    frozen = {names.plain(name) for name, p in model.named_parameters() if not p.requires_grad}
    return {key: value for key, value in state.items() if key in attention or key not in frozen}


def first_names(model: nn.Module, keys: Mapping[str, Any]) -> dict[str, str]:
    """Key of an attention's state → the key under the first name that the attention has."""
    names = PlainNames(model)
    first: dict[int, str] = {}
    renamed: dict[str, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Attention):
            plain = names.plain(path)
            renamed[f"{plain}."] = f"{first.setdefault(id(module), plain)}."
    return {
        key: next(
            (new + key[len(old) :] for old, new in renamed.items() if key.startswith(old)), key
        )
        for key in keys
    }
