"""The block in a small network: put in, trained a step, taken out."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from torch import Tensor, nn

from attnzoo.api import wrap
from attnzoo.hosts import Attention, Start
from attnzoo.surgery import unwrap
from attnzoo.testing.block.subject import BlockSubject, randomised
from attnzoo.testing.contract import BreachError, NotRunError, same_bits

__all__ = ["in_network"]

PLACES = ("match", {"type": "ReLU"})


def in_network(subject: BlockSubject) -> None:
    """`wrap` keeps a network's outputs bitwise, the block learns in it, `unwrap` undoes it."""
    if not subject.registered:
        raise NotRunError("register_block it: wrap finds blocks by name")
    _, channels, height, width = subject.fit(2, 16, 12, 10)
    model = nn.Sequential(*_layers(3, channels), *_layers(channels, channels))
    x = torch.randn(2, 3, height, width)
    before, modules, keys = _outputs(model, x), list(model.modules()), list(model.state_dict())
    starts: list[Start] = ["identity", "paper"]
    if subject.spec.neutral:
        starts.append("neutral")
    for start in starts:
        wrap(
            model,
            PLACES,
            subject.spec.name,
            start=start,
            example=(3, height, width),
            **subject.options,
        )
        ran = _runs(model)
        if start != "paper" and not same_bits(_outputs(model, x), before):
            raise BreachError("outputs after wrap differ from those before")
        if start == "paper" and _outputs(model, x).shape != before.shape:
            raise BreachError("outputs after wrap have another shape")
        if set(ran.values()) != {1}:
            raise BreachError(f"the blocks ran {sorted(ran.values())} times in one forward pass")
        _learns(model, x)
        unwrap(model)
        if list(model.modules()) != modules or list(model.state_dict()) != keys:
            raise BreachError("unwrap left other modules or keys than there were")
        if not same_bits(_outputs(model, x), before):
            raise BreachError("outputs after unwrap differ from those before wrap")


def _layers(given: int, made: int) -> list[nn.Module]:
    return [nn.Conv2d(given, made, 3, padding=1), nn.GroupNorm(1, made), nn.ReLU()]


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    return model.eval()(x)


def _attentions(model: nn.Module) -> dict[str, Attention]:
    return {path: m for path, m in model.named_modules() if isinstance(m, Attention)}


def _runs(model: nn.Module) -> Counter[str]:
    """How often each attention runs from now on, until it is taken out."""
    ran: Counter[str] = Counter()
    for path, attention in _attentions(model).items():
        attention.register_forward_hook(lambda *_, path=path: ran.update([path]))
    return ran


def _learns(model: nn.Module, x: Tensor) -> None:
    attentions = _attentions(model)
    for attention in attentions.values():
        randomised(attention)
    (model.train()(x) * torch.randn(x.shape[0], 1, *x.shape[2:])).sum().backward()
    parameters = (attention.named_parameters(prefix=path) for path, attention in attentions.items())
    for path, parameter in itertools.chain.from_iterable(parameters):
        if parameter.grad is None or not parameter.grad.isfinite().all():
            raise BreachError(f"{path} gets no finite gradient in a network")
    model.zero_grad()
