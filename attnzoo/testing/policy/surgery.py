"""Surgery at the places of a policy: nothing breaks, everything learns, all is undone."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from attnzoo.api import plan, wrap
from attnzoo.hosts import Attention
from attnzoo.surgery import unwrap
from attnzoo.testing.contract import BreachError
from attnzoo.testing.policy.subject import Network, PolicySubject, outputs, same_outputs

__all__ = ["gradients", "outputs_kept", "plan_changes_nothing", "runs_once", "undone"]

BLOCK = "local"


def plan_changes_nothing(subject: PolicySubject) -> None:
    """A plan leaves modules, tensors, hooks, modes and the random state as they were."""
    for network in subject.networks:
        with network.named() as model:
            before, state = _snapshot(model), torch.get_rng_state()
            if network in subject.fitting:
                planned = plan(model, _asked(subject), BLOCK, example=network.example)
                if not planned.sites:
                    raise BreachError("the plan has no site")
            if _snapshot(model) != before:
                raise BreachError("the plan changed the model")
            if not torch.equal(torch.get_rng_state(), state):
                raise BreachError("the plan changed the random state")


def outputs_kept(subject: PolicySubject) -> str | None:
    """With the identity start the outputs after `wrap` are bitwise those before."""
    for network in subject.fitting:
        with network.named() as model:
            before = outputs(model, network)
            _wrap(subject, network, model)
            if not same_outputs(outputs(model, network), before):
                raise BreachError("outputs after wrap differ from those before")
    return _only_shapes(subject)


def runs_once(subject: PolicySubject) -> str:
    """Each block runs exactly once in a forward pass."""
    count = 0
    for network in subject.fitting:
        with network.named() as model:
            attentions = _wrap(subject, network, model)
            ran: Counter[str] = Counter()
            for path, attention in attentions.items():
                attention.register_forward_hook(lambda *_, ran=ran, path=path: ran.update([path]))
            outputs(model, network)
            for path in attentions:
                if ran[path] != 1:
                    raise BreachError(f"{path} ran {ran[path]} times")
            count += len(attentions)
    return f"{count} blocks"


def gradients(subject: PolicySubject) -> str | None:
    """Gradients reach every parameter of every block."""
    for network in subject.fitting:
        with network.named() as model:
            attentions = _wrap(subject, network, model)
            _open(model)
            args, kwargs = network.arguments
            _loss(model.train()(*args, **kwargs)).backward()
            for path, attention in attentions.items():
                _learns(path, attention)
    return _only_shapes(subject)


def undone(subject: PolicySubject) -> str | None:
    """After `unwrap` modules, tensors, keys, hooks and outputs are those from before."""
    for network in subject.fitting:
        with network.named() as model:
            before = outputs(model, network)
            kept, keys = _snapshot(model), list(model.state_dict())
            _wrap(subject, network, model)
            unwrap(model)
            if _snapshot(model) != kept or list(model.state_dict()) != keys:
                raise BreachError("unwrap left other modules, tensors or hooks than there were")
            if not same_outputs(outputs(model, network), before):
                raise BreachError("outputs after unwrap differ from those before wrap")
    return _only_shapes(subject)


def _asked(subject: PolicySubject) -> tuple[str, dict[str, Any]]:
    return subject.spec.name, dict(subject.options)


def _wrap(subject: PolicySubject, network: Network, model: nn.Module) -> dict[str, Attention]:
    wrap(model, _asked(subject), BLOCK, example=network.example)
    return {path: m for path, m in model.named_modules() if isinstance(m, Attention)}


def _only_shapes(subject: PolicySubject) -> str | None:
    names = [network.name for network in subject.fitting if network.is_meta]
    return f"on meta tensors, so without numbers: {', '.join(names)}" if names else None


@torch.no_grad()
def _open(model: nn.Module) -> None:
    """Let what starts at zero, such as γ, pass gradients on, and no branch be dropped."""
    for parameter in model.parameters():
        if not parameter.is_meta and not parameter.any():
            parameter.fill_(0.1)
    for module in model.modules():
        if "Drop" in type(module).__name__ or type(module).__name__ == "StochasticDepth":
            module.forward = lambda x, *_: x


def _loss(result: Any) -> Tensor:
    leaves = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.requires_grad]
    return torch.stack([leaf.float().square().mean() for leaf in leaves]).sum()


def _learns(path: str, attention: Attention) -> None:
    total = 0.0
    for name, parameter in attention.named_parameters():
        if parameter.grad is None:
            raise BreachError(f"{path}.{name} gets no gradient")
        if parameter.is_meta:
            total = 1.0
        elif not parameter.grad.isfinite().all():
            raise BreachError(f"the gradient of {path}.{name} is not finite")
        else:
            total += parameter.grad.abs().sum().item()
    if not total:
        raise BreachError(f"the gradients of {path} are zero")


_REGISTERED = frozenset(key for key, value in vars(nn.Module()).items() if isinstance(value, dict))


def _snapshot(model: nn.Module) -> list[tuple[Any, ...]]:
    """Modules, modes, tensors with their versions, and hooks: all by identity, in order."""
    seen: list[tuple[Any, ...]] = []
    for path, module in model.named_modules():
        tensors = itertools.chain(module._parameters.items(), module._buffers.items())
        held = tuple((key, id(x), None if x is None else x._version) for key, x in tensors)
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        # The dicts of a module may be others, as long as what is in them is the same.
        attributes = {
            key: [(name, id(held)) for name, held in value.items()]
            if key in _REGISTERED
            else id(value)
            for key, value in vars(module).items()
        }
        seen.append((path, id(module), type(module), module.training, held, hooks, attributes))
    return seen
