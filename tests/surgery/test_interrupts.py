"""Interrupts at random moments: the model is plain or wrapped, and nothing is left switched on.

`ATTNZOO_INTERRUPTS` sets how many calls are interrupted of each verb on each network.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from zoo import BACKBONES, PlainVGG, snapshot

import attnzoo
from attnzoo.tracing.interrupts import answer, held, waited_for

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")

COUNT = int(os.environ.get("ATTNZOO_INTERRUPTS", "6"))
SIZE = (3, 32, 32)


class _Hooked(nn.Module):
    """A network whose attention is inserted, hooked and wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.block = _Block(8)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.block(self.stem(x))).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.conv(x)).relu()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "plain": (PlainVGG, "pre-pool"),
    "resnet18": (BACKBONES["resnet18"], ["in-residual", ("post-residual", {"occupied": "skip"})]),
    "hooked": (_Hooked, [("match", {"pattern": name}) for name in ("stem.1", "block", "pool")]),
}


def _switched() -> list[Any]:
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
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        torch.relu(torch.ones(1)).device.type,
    ]


def _wraps(model: nn.Module) -> list[Any]:
    """What `snapshot` says of it, but for which objects they are: that differs between wraps."""
    state = [(path, cls, mode) for path, _, cls, mode, _ in snapshot(model)]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [state, hooks, attnzoo.recipes(model), list(model.state_dict())]


def _weights(model: nn.Module) -> list[torch.Tensor]:
    blocks = attnzoo.attention_modules(model).values()
    return [tensor for block in blocks for tensor in block.state_dict().values()]


def _interrupted(call: Callable[[], Any], seconds: float) -> bool:
    """Whether an interrupt came while it ran; at the latest it comes right afterwards."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False


@pytest.fixture
def interrupts() -> Any:
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGALRM, former)


@pytest.mark.no_cover
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("verb", ["plan", "cost", "wrap", "unwrap", "load"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_model_is_plain_or_wrapped_whenever_one_stops(
    verb: str, network: str, tmp_path: Path
) -> None:
    build, policy = NETWORKS[network]
    model, path = build(), tmp_path / "attention.safetensors"

    def wrap() -> None:
        attnzoo.wrap(model, policy, "se", example=SIZE)

    call: Callable[[], Any] = {
        "plan": lambda: attnzoo.plan(model, policy, "se", example=SIZE),
        "cost": lambda: attnzoo.cost(model, SIZE),
        "wrap": wrap,
        "unwrap": lambda: attnzoo.unwrap(model),
        "load": lambda: attnzoo.load(path, model),
    }[verb]
    plain, values = snapshot(model), [tensor.clone() for tensor in model.state_dict().values()]
    wrap()
    wrapped = _wraps(model)
    with torch.no_grad():
        for attention in attnzoo.attention_modules(model).values():
            for parameter in attention.parameters():
                parameter.add_(1)
    trained = _weights(model)
    attnzoo.save(model, path, what="attention")
    attnzoo.unwrap(model)
    begins_wrapped = verb == "unwrap"
    switched = _switched()
    seconds = 0.0
    for _ in range(3):  # how long it takes: the first time is longer
        if begins_wrapped:
            wrap()
        begin = time.perf_counter()
        call()
        seconds = time.perf_counter() - begin
        if attnzoo.recipes(model):
            attnzoo.unwrap(model)
    draw = random.Random(f"{verb} {network}")
    seen: Counter[str] = Counter()
    longest = seconds
    while seen["interrupted"] < COUNT:
        if begins_wrapped:
            wrap()
        done = not _interrupted(call, draw.uniform(1e-5, longest))
        seen["done" if done else "interrupted"] += 1
        assert _switched() == switched
        if attnzoo.recipes(model):
            seen["wrapped"] += 1
            assert _wraps(model) == wrapped
            if verb == "load":
                assert all(map(torch.equal, _weights(model), trained))
            attnzoo.unwrap(model)
        if verb == "load":  # torch writes the batches that a norm has counted over themselves
            assert [state[:4] for state in snapshot(model)] == [state[:4] for state in plain]
        else:
            assert snapshot(model) == plain
        assert all(map(torch.equal, model.state_dict().values(), values))
        longest = max(longest * 0.95, seconds * 0.1) if done else min(longest * 1.02, seconds)
    print(f"\n{verb} {network}: {dict(seen)}")


# --- signals that wait ----------------------------------------------------------------------------


@pytest.mark.usefixtures("interrupts")
def test_a_signal_waits_for_an_answer_or_the_end() -> None:
    steps: list[str] = []

    def answered() -> None:
        signal.raise_signal(signal.SIGALRM)
        steps.append("after the signal")
        with held():  # what is held already is held by the outermost
            steps.append("inside")
        answer()
        steps.append("after the answer")

    def unanswered() -> None:
        signal.raise_signal(signal.SIGALRM)
        steps.append("at the end")

    for run in (answered, unanswered):
        with pytest.raises(KeyboardInterrupt), held():
            run()
    assert steps == ["after the signal", "inside", "at the end"]
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_a_signal_that_came_before_an_error_is_not_lost() -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGALRM)
        raise ValueError("something else")

    with pytest.raises(KeyboardInterrupt) as caught, held():
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_a_handler_that_does_not_raise_runs_and_the_verb_goes_on() -> None:
    came: list[int] = []
    former = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        with held():
            signal.raise_signal(signal.SIGALRM)
            assert came == []
            answer()
            assert came == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, former)


@pytest.mark.usefixtures("interrupts")
def test_a_second_signal_does_not_wait_for_a_model_that_never_comes_to_an_operation() -> None:
    signals: list[int] = []

    def hang() -> None:
        for _ in range(3):
            signals.append(signal.SIGALRM)
            signal.raise_signal(signal.SIGALRM)

    with pytest.raises(KeyboardInterrupt), held(), waited_for():
        hang()
    assert len(signals) == 2
    assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
def test_all_handlers_come_back_even_if_one_raises_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, came = signal.signal, []

    def raising(number: int, handler: Any) -> Any:
        former = put(number, handler)
        if handler is signal.default_int_handler and not came:
            came.append(number)
            raise KeyboardInterrupt
        return former

    numbers = (signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt), held():
        monkeypatch.setattr(signal, "signal", raising)
    assert came
    assert [signal.getsignal(number) for number in numbers] == before


def test_in_another_thread_nothing_is_held() -> None:
    seen: list[Any] = []

    def look() -> None:
        with held(), waited_for():
            seen.append(signal.getsignal(signal.SIGINT))
            answer()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
