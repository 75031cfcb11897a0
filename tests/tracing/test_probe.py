"""One forward pass, written down: its calls, its values, and where it cannot be followed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, PlainVGG, Residual, TupleOutput, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import TraceError
from attnzoo.tracing.probe import probe

SIZE = (3, 64, 64)


def _calls(model: nn.Module, example: Any = SIZE) -> list[str]:
    return [call.path for call in probe(model, example).calls]


@pytest.mark.parametrize("name", BACKBONES)
def test_calls_parents_and_shapes_are_those_of_a_real_forward_pass(name: str) -> None:
    model = BACKBONES[name]().eval()
    untouched, state = snapshot(model), torch.get_rng_state()
    trace = probe(model, SIZE)
    assert snapshot(model) == untouched
    assert torch.equal(torch.get_rng_state(), state)
    seen: list[tuple[str, Any, Any]] = []

    def shapes(taken: Any) -> list[torch.Size]:  # DenseNet layers take a list
        return [x.shape for x in ([taken] if isinstance(taken, Tensor) else taken)]

    paths = {module: path for path, module in reversed(list(model.named_modules()))}
    for module in paths:
        module.register_forward_hook(
            lambda m, args, out: seen.append((paths[m], shapes(args[0]), out.shape))
        )
    outputs(model, example(1))
    ended = sorted(trace.calls, key=lambda call: (call.last, -call.index))
    assert [call.path for call in ended] == [path for path, _, _ in seen]
    for call, (path, taken, returned) in zip(ended, seen, strict=True):
        assert [trace.values[v].shape for v in call.inputs] == taken, path
        assert trace.values[call.outputs[0]].shape == returned, path
        assert call.returns_tensor
        if call.parent >= 0:
            assert call.index in trace.calls[call.parent].inside
        assert call.type == type(model.get_submodule(path)).__name__
    assert trace.stopped == ""
    assert [trace.values[v].shape for v in trace.outputs] == [(1, model(example(1)).shape[1])]


# --- forward passes that cannot be followed to the end -------------------------------------------


def test_a_detector_keeps_its_backbone() -> None:
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    model = build(weights=None, weights_backbone=None, num_classes=3).eval()
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        before = model(images)
    untouched = snapshot(model)
    trace = probe(model)
    assert trace.stopped
    assert snapshot(model) == untouched
    attnzoo.wrap(model, "mbconv", "se")
    assert len(attnzoo.attention_modules(model)) == 15
    with torch.no_grad():
        after = model(images)  # the anchors must not be left on meta
    for key, value in before[0].items():
        assert torch.equal(after[0][key], value)
    assert snapshot(attnzoo.unwrap(model))[0][:3] == untouched[0][:3]


class _DataDependent(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.backbone = PlainVGG()

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone.features(x)
        y = x.mean((2, 3))
        if self.how == "nonzero":
            return y[y > 0]
        if self.how == "numpy":
            return y * float(y.numpy().sum())
        return y


@pytest.mark.parametrize("how", ["nonzero", "numpy"])
def test_values_that_decide_end_the_trace(how: str) -> None:
    model = _DataDependent(how)
    before = outputs(model)
    trace = probe(model, SIZE)
    assert trace.stopped
    assert trace.outputs == ()
    assert [call.path for call in trace.calls if call.parent == 0] == ["backbone.features"]
    attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 2
    assert same_bits(outputs(model), before)
    with pytest.raises(attnzoo.errors.NoSitesError, match="followed only up to"):
        attnzoo.plan(model, "transition", example=SIZE)


def test_a_trace_that_stops_at_once_is_an_error() -> None:
    class Early(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2, 3)).nonzero()

    with pytest.raises(TraceError, match="example="):
        probe(Early(), SIZE)


def test_exceptions_that_the_model_catches_do_not_confuse_the_calls() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.pool = (
                nn.Sequential(nn.Identity(), nn.Conv2d(5, 4, 1)),
                nn.MaxPool2d(2),
            )
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.inner(x)
            except RuntimeError:
                x = self.conv(x)
            return self.pool(F.relu(x)) + 1

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tries, self.after = Tries(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.tries(x))

    trace = probe(Outer(), SIZE)
    parents = {call.path: trace.calls[call.parent].path for call in trace.calls[1:]}
    assert parents == {
        "tries": "",
        "tries.inner": "tries",
        "tries.inner.0": "tries.inner",
        "tries.inner.1": "tries.inner",
        "tries.conv": "tries",
        "tries.pool": "tries",
        "after": "",
    }
    pool = next(call for call in trace.calls if call.path == "tries.pool")
    assert trace.values[pool.inputs[0]].shape == (1, 4, 64, 64)
    tries = next(call for call in trace.calls if call.path == "tries")
    assert trace.values[tries.outputs[0]].shape == (1, 4, 32, 32)


def test_calls_on_other_threads_are_not_taken_for_the_models() -> None:
    model, stop, started = PlainVGG().eval(), threading.Event(), threading.Event()
    other = PlainVGG().eval()

    def run() -> None:
        while not stop.is_set():
            other(example(1))
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        expected = [path for path, _ in model.named_modules()]
        for _ in range(5):
            assert _calls(model) == expected
    finally:
        stop.set()
        thread.join()


# --- in place, nested arguments -------------------------------------------------------------------


def test_operations_in_place_make_new_versions() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.pool = nn.Conv2d(3, 4, 1), nn.ReLU(True), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.act(self.conv(x)).add_(1))

    trace = probe(InPlace(), SIZE)
    conv, act, pool = trace.calls[1:]
    assert act.inputs == conv.outputs
    assert act.outputs != conv.outputs
    assert pool.inputs != act.outputs
    assert [trace.ops[op].name for op in trace.users(act.outputs[0])] == ["add"]
    names = [op.name for op in trace.ops]
    assert names == ["convolution", "relu", "add", "max_pool2d_with_indices"]


@pytest.mark.parametrize(
    "kind", ["list", "tuple", "dict", "int-dict", "mixed", "nested", "keyword"]
)
def test_tensors_inside_arguments_and_results_are_followed(kind: str) -> None:
    pack: Any = {
        "list": lambda x, y: [x, y],
        "tuple": lambda x, y: (x, y),
        "dict": lambda x, y: OrderedDict(a=x, b=y),
        "int-dict": lambda x, y: {0: x, 1: y},
        "mixed": lambda x, y: [3, x, y],
        "nested": lambda x, y: [{"a": (1, x)}, y],
        "keyword": lambda x, y: x + y,
    }[kind]

    class Inner(nn.Module):
        def forward(self, *items: Any, **named: Any) -> Any:
            return items[0] if items else named["item"]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.inner = nn.Conv2d(3, 3, 1), Inner()

        def forward(self, x: Tensor) -> Any:
            packed = pack(self.conv(x), x * 2)
            return self.inner(item=packed) if kind == "keyword" else self.inner(packed)

    trace = probe(Model(), SIZE)
    inner = trace.calls[2]
    assert len(inner.inputs) == (0 if kind == "keyword" else 2)
    assert not inner.takes_tensor
    assert len(inner.outputs) == len(trace.outputs) == (1 if kind == "keyword" else 2)
    assert inner.returns_tensor == (kind == "keyword")


def test_a_module_that_returns_a_tuple() -> None:
    trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), TupleOutput(4)), SIZE)
    branches = next(call for call in trace.calls if call.type == "Branches")
    assert not branches.returns_tensor
    assert len(branches.outputs) == 2
    assert trace.output_map(branches) is None
    with pytest.raises(attnzoo.errors.SiteError, match="no single tensor"):
        trace.after(branches)
    with pytest.raises(attnzoo.errors.SiteError, match="exactly one feature map"):
        trace.replace(branches)


def test_how_often_a_module_is_called() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 3, 1), act, Residual(3), act, act)
    trace = probe(model, SIZE)
    assert trace.times_called["1"] == 3
    assert trace.times_called["2"] == trace.times_called[""] == 1
    assert trace.modules["1"].paths == ("1", "3", "4")
