"""Ctrl-C at a random moment of a verb: the model is plain or wrapped, and nothing is left behind.

A case is one call that a timer interrupts. Three networks, on which attention is inserted, put into
a slot, hooked and wrapped; the interrupt is a signal, as Ctrl-C is.
"""

from __future__ import annotations

import functools
import gc
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fuzz_files import joined, parts
from harness import fuzzer
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from zoo import BACKBONES, PlainVGG, Residual, snapshot

import attnzoo

SIZE = (3, 32, 32)
VERBS = ("plan", "cost", "wrap", "unwrap", "load", "save")
TRIES = 200  # calls that may end before the interrupt comes


class Hooked(nn.Module):
    """A network whose attention is inserted, hooked and wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.block, self.pool, self.head = Residual(8), nn.MaxPool2d(2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.block(self.stem(x))).mean((2, 3)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "plain": (PlainVGG, "pre-pool"),
    "resnet18": (BACKBONES["resnet18"], ["in-residual", ("post-residual", {"occupied": "skip"})]),
    "hooked": (Hooked, [("match", {"pattern": name}) for name in ("stem.1", "block", "pool")]),
}


@dataclass
class Subject:
    """A network, how it is plain and wrapped, and how long each verb takes on it."""

    model: nn.Module
    policy: Any
    plain: list[Any]
    values: list[Tensor]
    wrapped: list[Any]
    trained: list[Tensor]
    file: tuple[Any, bytes]
    switched: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(VERBS, 0.3))

    def wrap(self) -> None:
        attnzoo.wrap(self.model, self.policy, "se", example=SIZE)

    def fault(self, path: Path, verb: str) -> str:
        """What is not as it should be after an interrupt; "" if all is."""
        now = switched()
        if now != self.switched:
            return f"left switched on: {now}, not {self.switched}"
        if {other.name for other in path.parent.iterdir()} - {path.name}:
            return "temporary file"
        if path.exists() and content(path) != self.file:
            return "file"
        if attnzoo.recipes(self.model):
            if state(self.model) != self.wrapped:
                return "half wrapped"
            blocks = weights(self.model)
            if verb in ("load", "save") and not all(map(torch.equal, blocks, self.trained)):
                return "half loaded"
            attnzoo.unwrap(self.model)
        # Objects are the same; torch writes the batches that a norm has counted over themselves.
        if [one[:4] for one in snapshot(self.model)] != [one[:4] for one in self.plain]:
            return "half plain"
        same = all(map(torch.equal, self.model.state_dict().values(), self.values))
        return "" if same else "weights"


@functools.cache
def subject(name: str) -> Subject:
    build, policy = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    plain, values = snapshot(model), [tensor.clone() for tensor in model.state_dict().values()]
    found = Subject(model, policy, plain, values, [], [], ({}, b""))
    found.wrap()
    found.wrapped = state(model)
    train(model)
    found.trained = [tensor.clone() for tensor in weights(model)]
    with tempfile.TemporaryDirectory() as place:
        attnzoo.save(model, Path(place) / "file")
        found.file = content(Path(place) / "file")
    attnzoo.unwrap(model)
    return found


def content(path: Path) -> tuple[Any, bytes]:
    """Header and data of a file; the header's entries come in any order."""
    return parts(path.read_bytes())


def train(model: nn.Module) -> None:
    """Other weights than those that blocks start with."""
    with torch.no_grad():
        for attention in attnzoo.attention_modules(model).values():
            for parameter in attention.parameters():
                parameter.fill_(0.25)


def weights(model: nn.Module) -> list[Tensor]:
    blocks = attnzoo.attention_modules(model).values()
    return [tensor for block in blocks for tensor in block.state_dict().values()]


def state(model: nn.Module) -> list[Any]:
    """What `snapshot` says of it, but for which objects they are: that differs between wraps."""
    said = [(path, cls, mode) for path, _, cls, mode, _ in snapshot(model)]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [said, hooks, attnzoo.recipes(model), list(model.state_dict())]


def switched() -> list[Any]:
    """All that a verb switches on and off again."""
    module = nn.modules.module
    return [
        [type(mode).__name__ for mode in _get_current_dispatch_mode_stack()],
        torch.overrides._get_current_function_mode_stack(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_rng_state().sum().item(),
        len(module._global_forward_hooks) + len(module._global_forward_pre_hooks),
        gc.isenabled(),
        threading.active_count(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        torch.relu(torch.ones(1)).device.type,
    ]


@contextmanager
def alarms() -> Generator[None]:
    """Alarms raise KeyboardInterrupt inside; afterwards the harness has its own again."""
    left = signal.alarm(0)
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        signal.alarm(left)


def interrupted(call: Callable[[], Any], seconds: float) -> bool:
    """Whether the interrupt came while `call` ran."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False


def case(draw: random.Random, place: Path) -> str:
    one, verb = subject(draw.choice(list(NETWORKS))), draw.choice(VERBS)
    path, one.switched = place / "file", switched()
    calls: dict[str, Callable[[], Any]] = {
        "plan": lambda: attnzoo.plan(one.model, one.policy, "se", example=SIZE),
        "cost": lambda: attnzoo.cost(one.model, SIZE),
        "wrap": one.wrap,
        "unwrap": lambda: attnzoo.unwrap(one.model),
        "load": lambda: attnzoo.load(path, one.model),
        "save": lambda: attnzoo.save(one.model, path),
    }
    for _ in range(TRIES):
        if verb == "load" or (verb == "save" and draw.random() < 0.5):
            path.write_bytes(joined(*one.file))
        if verb in ("unwrap", "save"):
            one.wrap()
        if verb == "save":
            train(one.model)
        moment, begin = draw.uniform(1e-5, one.seconds[verb]), time.perf_counter()
        with alarms():
            came = interrupted(calls[verb], moment)
        if not came:
            one.seconds[verb] = time.perf_counter() - begin
        fault = one.fault(path, verb)
        if fault:
            subject.cache_clear()
            raise RuntimeError(f"{verb}, interrupted after {moment:.4f} s: {fault}")
        path.unlink(missing_ok=True)
        if came:
            return "right"
    raise RuntimeError(f"{verb}: no interrupt came in {TRIES} calls")


fuzz = fuzzer(case)
