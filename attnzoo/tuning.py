"""Training a model with attention: parameter groups for the optimizer, and what stays frozen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from attnzoo.checks import check_number, did_you_mean
from attnzoo.errors import UnknownNameError
from attnzoo.hosts import Attention, check_module, named, warn_of_graphs

__all__ = ["freeze", "param_groups", "unfreeze"]


def param_groups(
    model: nn.Module, lr: float, weight_decay: float = 0.0, attention_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimizer.

    Biases, norms and γ (every parameter of fewer than two axes) are not decayed. Attention gets
    its own learning rate: a γ that starts at zero often wants a higher one. Frozen parameters
    are left out.

    Args:
        model: wrapped or plain.
        lr: learning rate of the backbone.
        weight_decay: of the parameters that are decayed.
        attention_lr_scale: the learning rate of attention is `lr · attention_lr_scale`.

    Returns:
        Up to four groups, named `backbone`, `backbone-no-decay`, `attention` and
        `attention-no-decay`; empty ones are left out.

    Raises:
        OptionError: if a number is negative or not a number.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")
        >>> groups = attnzoo.param_groups(model, lr=0.1, weight_decay=1e-4, attention_lr_scale=5)
        >>> optimizer = torch.optim.SGD(groups, momentum=0.9)
        >>> {group["name"]: group["lr"] for group in groups}["attention"]
        0.5
    """
    check_module(model)
    for name, value in (
        ("lr", lr),
        ("weight_decay", weight_decay),
        ("attention_lr_scale", attention_lr_scale),
    ):
        check_number("param_groups", name, value, minimum=0.0)
    attention = _attention_parameters(model)
    groups: dict[tuple[bool, bool], dict[str, Any]] = {
        (is_attention, decayed): {
            "name": ("attention" if is_attention else "backbone")
            + ("" if decayed else "-no-decay"),
            "params": [],
            "lr": lr * attention_lr_scale if is_attention else lr,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for is_attention in (False, True)
        for decayed in (True, False)
    }
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in attention, parameter.ndim >= 2)
            groups[key]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def freeze(
    model: nn.Module,
    until: str | None = None,
    keep_attention: bool = True,
    keep: str | Iterable[str] = (),
) -> nn.Module:
    """Freeze the backbone for transfer learning: its parameters get no gradient.

    BatchNorm layers go on updating their statistics in train mode; call `.eval()` on them to
    stop that too.

    Args:
        model: changed in place and returned.
        until: path of the last module to freeze, in registration order; what comes after it
            stays as it is. None freezes everything.
        keep_attention: leave attention trainable, wherever it sits.
        keep: path, or paths, of other modules to leave as they are, such as the head, which
            `attnzoo.backbones.head_of` finds.

    Raises:
        UnknownNameError: if no module has the path `until`, or one of `keep`.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")
        >>> model = attnzoo.freeze(model, until="layer3")
        >>> model.layer3[0].conv1.weight.requires_grad, model.fc.weight.requires_grad
        (False, True)
        >>> from attnzoo.backbones import head_of
        >>> model = attnzoo.freeze(model, keep=head_of(model))  # a linear probe, with attention
        >>> model.layer4[0].conv1.weight.requires_grad, model.fc.weight.requires_grad
        (False, True)
    """
    modules = list(named(model))
    last = len(modules) - 1
    if until is not None:
        _check_path(model, until, "freeze")
        last = max(i for i, (path, _) in enumerate(modules) if f"{path}.".startswith(f"{until}."))
    kept = _attention_parameters(model) if keep_attention else set()
    for path in [keep] if isinstance(keep, str) else keep:
        _check_path(model, path, "freeze")
        kept |= {id(parameter) for parameter in dict(modules)[path].parameters()}
    for _, module in modules[: last + 1]:
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in kept:
                parameter.requires_grad_(False)
    return model


def unfreeze(model: nn.Module, start: str | None = None) -> nn.Module:
    """Train more of the backbone again: what `freeze` held fixed gets a gradient.

    An optimizer knows the parameters that it was made with. The new ones are
    `attnzoo.param_groups` of those it has not, for its `add_param_group`.

    Args:
        model: changed in place and returned.
        start: path of the first module to train, in registration order; what comes before it
            stays as it is. None is everything.

    Raises:
        UnknownNameError: if no module has the path `start`.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.freeze(torchvision.models.resnet18(), until="layer4")
        >>> model = attnzoo.unfreeze(model, start="layer4")
        >>> model.layer3[0].conv1.weight.requires_grad, model.layer4[0].conv1.weight.requires_grad
        (False, True)
    """
    modules = list(named(model))
    first = 0
    if start is not None:
        _check_path(model, start, "unfreeze")
        first = next(i for i, (path, _) in enumerate(modules) if path == start)
    for _, module in modules[first:]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)
    return model


def _check_path(model: nn.Module, path: str, owner: str) -> None:
    paths = [known for known, _ in named(model)]
    if path not in paths:
        raise UnknownNameError(
            f"{owner}: no module has the path {path!r}.{did_you_mean(path, paths)}"
        )


def _attention_parameters(model: nn.Module) -> set[int]:
    held = [module for module in model.modules() if isinstance(module, Attention)]
    if not held:
        warn_of_graphs(model)
    return {id(parameter) for module in held for parameter in module.parameters()}
