"""Layers that are not run, since what they ask of torch is known: the trace is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attnzoo.errors import TraceError
from attnzoo.tracing import layers
from attnzoo.tracing.probe import probe
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


def _with_layers_run(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Trace:
    with monkeypatch.context() as patch:
        patch.setattr("attnzoo.tracing.recorder.operation", lambda layer, x: None)
        return probe(model, SIZE)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of the layers that were not run."""
    found: list[str] = []
    ask = layers.operation

    def noted(layer: nn.Module, x: Tensor) -> Any:
        known = ask(layer, x)
        if known is not None:
            found.append(type(layer).__name__)
        return known

    monkeypatch.setattr("attnzoo.tracing.recorder.operation", noted)
    return found


@pytest.mark.parametrize(
    "build",
    [
        torchvision.models.resnet18,
        torchvision.models.densenet121,
        lambda: timm.create_model("efficientnet_b0"),
        lambda: timm.create_model("mobilenetv3_small_100"),
        lambda: timm.create_model("convnext_atto"),
        lambda: torchvision.models.resnet18().to(memory_format=torch.channels_last),
        lambda: torchvision.models.resnet18().half(),
    ],
)
def test_the_trace_is_the_same(
    build: Callable[[], nn.Module], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    trace = probe(model, SIZE)
    assert "Conv2d" in asked
    assert vars(trace) == vars(_with_layers_run(model, monkeypatch))


class _Small(nn.Module):
    """Layers in all their variants, and what is around them."""

    def __init__(self, around: Callable[[], Any] = contextlib.nullcontext) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=1, bias=False)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.reflect = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.norms = nn.Sequential(
            nn.BatchNorm2d(8, momentum=None),
            nn.BatchNorm2d(8, affine=False),
            nn.BatchNorm2d(8, track_running_stats=False),
        )
        self.acts = nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU(), nn.SiLU(True))
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        with self.around():
            return self.acts(self.norms(self.reflect(self.same(self.conv(x)))))


class _Halves(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result[..., ::2] if func is F.relu else result


class _Doubles(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.double() if func is torch.ops.aten.silu.default else result


@pytest.mark.parametrize(
    ("around", "seen"),
    [
        (contextlib.nullcontext, True),
        (lambda: torch.autocast("cpu", torch.bfloat16), False),
        (_Halves, False),
        (_Doubles, False),
    ],
)
def test_variants_and_what_is_around_them(
    around: Any, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _Small(around)
    run: list[Any] = []
    monkeypatch.setattr(nn.ReLU, "forward", _noting(nn.ReLU.forward, run))
    monkeypatch.setitem(layers._KNOWN, nn.ReLU, (nn.ReLU.forward, layers._relu))
    trace = probe(model, SIZE)
    assert bool(run) != seen
    assert vars(trace) == vars(_with_layers_run(model, monkeypatch))


def _noting(forward: Callable[..., Any], run: list[Any]) -> Callable[..., Any]:
    def noting(self: nn.Module, x: Tensor) -> Tensor:
        run.append(self)
        return forward(self, x)

    return noting


def test_a_forward_pass_that_was_replaced_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _Small()
    plain = probe(model, SIZE)
    relu = model.acts[0]
    vars(relu)["forward"] = lambda x: F.gelu(x)
    own = probe(model, SIZE)
    assert [op.name for op in own.ops].count("gelu") == 1
    del vars(relu)["forward"]
    monkeypatch.setattr(nn.SiLU, "forward", lambda self, x: F.gelu(x))
    patched = probe(model, SIZE)
    assert [op.name for op in patched.ops].count("gelu") == 2
    assert "gelu" not in {op.name for op in plain.ops}


_SEEN: list[str] = []


def _note(module: nn.Module, *_: Any) -> None:
    _SEEN.append(type(module).__name__)


def test_layers_with_hooks_are_run_and_hooks_of_all_modules_too() -> None:
    model = _Small()
    _SEEN.clear()
    handle = model.acts[0].register_forward_hook(_note)
    probe(model, SIZE)
    assert _SEEN == ["ReLU"]
    handle.remove()
    _SEEN.clear()
    handle = nn.modules.module.register_module_forward_hook(_note)
    try:
        probe(model, SIZE)
    finally:
        handle.remove()
    assert _SEEN.count("SiLU") == 2


@pytest.mark.parametrize(
    "wrong",
    [nn.Conv2d(4, 8, 3), nn.BatchNorm2d(4), nn.Conv2d(3, 8, 99), nn.Conv2d(3, 8, 1).double()],
)
def test_what_does_not_fit_fails_as_it_does(
    wrong: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Identity(), wrong)
    told = []
    for trace in (probe, lambda model, size: _with_layers_run(model, monkeypatch)):
        try:
            told.append(vars(trace(model, SIZE)))  # torch does not look at dtypes on meta
        except TraceError as error:
            told.append(str(error))
    assert told[0] == told[1]


class _Catches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fails = nn.Conv2d(99, 8, 1)
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.fails(x)
        except RuntimeError:
            return self.conv(x)


def test_a_model_may_catch_what_a_layer_raises() -> None:
    trace = probe(_Catches(), SIZE)
    assert [(call.path, call.parent, bool(call.outputs)) for call in trace.calls] == [
        ("", -1, True),
        ("fails", 0, False),
        ("conv", 0, True),
    ]
