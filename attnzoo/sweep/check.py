"""Whether what attnzoo promises holds for one policy on one network."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from attnzoo.api import plan
from attnzoo.errors import AttnzooError, NoSitesError
from attnzoo.hosts import Attention
from attnzoo.policies import PolicyCall, select
from attnzoo.surgery import Plan, carry_out, unwrap
from attnzoo.sweep.networks import Network, Trial
from attnzoo.sweep.table import Row
from attnzoo.tracing import probe

__all__ = ["POLICIES", "check_network"]

#: The policies that name places by themselves.
POLICIES = (
    "pre-pool",
    "post-residual",
    "in-residual",
    "transition",
    "mbconv",
    "stage-end",
    "neck",
    "decoder",
    "in-block",
    "auto",
)

_BLOCK = "local"


class BrokenPromiseError(Exception):
    """A promise that did not hold."""


def check_network(name: str, policies: Iterable[str] = POLICIES) -> list[Row]:
    """A row for each policy on one network; a single one for a network that is not swept."""
    try:
        network = Network.build(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [Row(name, "?", "other", "", result="not followed", reason=_one_line(reason))]
    if network.trial is None:
        return [Row(name, network.family, network.kind, "", result="not convolutional")]
    plain = _Plain(network.trial, network.device)
    rows: dict[str, Row] = {}
    for policy in policies:
        rows[policy] = _check_policy(network, plain, policy, rows)
    return list(rows.values())


class _Plain:
    """What the plain network is and computes, taken once: it is the same after every unwrap."""

    def __init__(self, trial: Trial, device: str) -> None:
        self.trial, self.device = trial, device
        model = trial.network.eval()
        self.modules = [(path, type(module)) for path, module in model.named_modules()]
        self.state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        self.outputs = _outputs(trial, device)
        self.trace = probe(model, trial.inputs(1, "meta"))


def _check_policy(network: Network, plain: _Plain, policy: str, known: Mapping[str, Row]) -> Row:
    trial = plain.trial
    facts: dict[str, Any] = {"device": network.device, "build_seconds": round(network.seconds, 3)}

    def row(result: str, reason: object = "") -> Row:
        name, family, kind = network.name, network.family, network.kind
        return Row(name, family, kind, policy, result=result, reason=_one_line(reason), **facts)

    model = trial.network
    example = trial.inputs(1, "meta")
    try:
        chosen = select(plain.trace, PolicyCall(policy)).policy.name
        if policy == "auto" and chosen in known:  # the very same thing
            return replace(known[chosen], policy=policy)
        begin = time.perf_counter()
        planned = plan(model, policy, _BLOCK, example=example)
        seconds = time.perf_counter() - begin
    except NoSitesError as error:
        return row("no places", error)
    except AttnzooError as error:
        return row("refused", f"{type(error).__name__}: {error}")
    facts |= _places(planned)
    try:
        with _undone(plain):
            begin = time.perf_counter()
            carry_out(planned)
            facts["wrap_seconds"] = round(seconds + time.perf_counter() - begin, 3)
            _runs_once(plain)
            _learns(trial, network.device)
    except BrokenPromiseError as error:
        return row("broken", error)
    except AttnzooError as error:
        return row("refused", f"{type(error).__name__}: {error}")
    except Exception as error:
        return row("broken", f"{type(error).__name__}: {error}")
    return row("ok", "; ".join(f"left out {skipped}" for skipped in planned.skipped))


def _places(planned: Plan) -> dict[str, Any]:
    channels = sorted({site.channels for site in planned.sites})
    mechanisms = Counter(edit.mechanism for edit in planned.edits)
    return {
        "sites": len(planned.sites),
        "skipped": len(planned.skipped),
        "channels": str(channels[0]) if len(channels) == 1 else f"{channels[0]}-{channels[-1]}",
        "mechanisms": " ".join(f"{name}:{count}" for name, count in mechanisms.items()),
        "chosen": " ".join(call.name for call in planned.recipe.policies),
    }


@contextmanager
def _undone(plain: _Plain) -> Generator[None]:
    """On leaving, the network is unwrapped, and must be what it was."""
    model = plain.trial.network
    try:
        yield
    finally:
        if any(isinstance(module, Attention) for module in model.modules()):
            unwrap(model)
        model.eval().zero_grad(set_to_none=True)
    if [(path, type(module)) for path, module in model.named_modules()] != plain.modules:
        raise BrokenPromiseError("unwrap left other modules than there were")
    now = model.state_dict()
    if list(now) != list(plain.state):
        raise BrokenPromiseError("unwrap left other keys than there were")
    if plain.device != "meta":
        if not all(torch.equal(now[key], tensor) for key, tensor in plain.state.items()):
            raise BrokenPromiseError("the plain weights or statistics changed")
        if not _same_bits(plain.outputs, _outputs(plain.trial, plain.device)):
            raise BrokenPromiseError("outputs after unwrap differ from those before wrap")


def _runs_once(plain: _Plain) -> None:
    """One forward pass: each attention runs once, and the outputs are those of the plain model."""
    trial, device = plain.trial, plain.device
    attentions = _attentions(trial)
    ran: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, path=path: ran.update([path]))
        for path, module in attentions.items()
    ]
    try:
        outputs = _outputs(trial, device)
    finally:
        for handle in handles:
            handle.remove()
    others = [path for path in attentions if ran[path] != 1]
    if others:
        raise BrokenPromiseError(
            f"{others[0]} ran {ran[others[0]]} times ({len(others)} of {len(attentions)})"
        )
    if device != "meta" and not _same_bits(outputs, plain.outputs):
        raise BrokenPromiseError("outputs after wrap differ from those before")


def _learns(trial: Trial, device: str) -> None:
    """Every parameter of every attention gets a gradient in one training step, with γ open.

    The network's own are frozen meanwhile, which takes half the time and changes no gradient.
    """
    model, attentions = trial.network, _attentions(trial)
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    # Past a norm or scale that starts at zero, as many residual branches end, nothing flows back.
    shut = [p for p in model.parameters() if p.requires_grad and not p.is_meta and not p.any()]
    theirs = {p for attention in attentions.values() for p in attention.parameters()}
    frozen = [p for p in model.parameters() if p.requires_grad and p not in theirs]
    model.train()
    for module in model.modules():  # a branch that is dropped has no gradient
        if "Drop" in type(module).__name__ or type(module).__name__ == "StochasticDepth":
            module.training = False
    for module in attentions.values():
        if module.gamma is not None:
            nn.init.constant_(module.gamma, 0.5)
    try:
        with torch.no_grad():
            for parameter in shut:
                parameter.fill_(0.1)
        for parameter in frozen:
            parameter.requires_grad_(False)
        trial.loss(device).backward()
        for path, module in attentions.items():
            _has_gradients(path, module, device, mined=trial.task == "detection")
    finally:
        for parameter in frozen:
            parameter.requires_grad_()
        with torch.no_grad():
            for parameter in shut:
                parameter.zero_()
            for name, buffer in model.named_buffers():
                if not buffer.is_meta:
                    buffer.copy_(statistics[name])


def _attentions(trial: Trial) -> dict[str, Attention]:
    return {p: m for p, m in trial.network.named_modules() if isinstance(m, Attention)}


def _has_gradients(path: str, module: Attention, device: str, mined: bool) -> None:
    """Raise if a parameter has no finite gradient, or all are zero.

    Only the latter is let pass where the loss is `mined`: it picks places of some maps, as that of
    detectors does, and a map that is not picked has gradients of zero.
    """
    total = 0.0
    for name, parameter in module.named_parameters():
        if parameter.grad is None:
            raise BrokenPromiseError(f"{path}.{name} gets no gradient")
        if device != "meta":
            if not parameter.grad.isfinite().all():
                raise BrokenPromiseError(f"the gradient of {path}.{name} is not finite")
            total += parameter.grad.abs().sum().item()
    if total == 0 and device != "meta" and not mined:
        raise BrokenPromiseError(f"the gradients of {path} are zero")


@torch.no_grad()
def _outputs(trial: Trial, device: str) -> list[Tensor]:
    leaves = tree_leaves(trial.network.eval()(*trial.inputs(1, device)))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether all tensors are bitwise equal, signs of zero and NaNs included."""
    return len(one) == len(other) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        for a, b in zip(one, other, strict=True)
    )


def _one_line(text: object) -> str:
    """Without the folders of this machine: a line of code is told from its package on."""
    return re.sub(r"\S*[/\\]site-packages[/\\]", "", " ".join(str(text).split()))[:400]
