"""A twin shares nothing that changes with its model, and is the same in every other respect."""

from __future__ import annotations

import enum
import functools
import random
import threading
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, snapshot

import attnzoo
from attnzoo.tracing.probe import probe
from attnzoo.tracing.twin import Twin

SIZE = (3, 16, 16)
Pair = namedtuple("Pair", "first second")  # as networks have them


@pytest.mark.parametrize("name", BACKBONES)
def test_a_twin_is_the_same_tree_on_meta(name: str) -> None:
    model = BACKBONES[name]()
    untouched = snapshot(model)
    twin = Twin(model).root
    assert snapshot(model) == untouched
    assert [(p, type(m)) for p, m in twin.named_modules(remove_duplicate=False)] == [
        (p, type(m)) for p, m in model.named_modules(remove_duplicate=False)
    ]
    assert list(twin.state_dict()) == list(model.state_dict())
    for key, tensor in twin.state_dict().items():
        own = model.state_dict()[key]
        assert tensor.is_meta
        assert (tensor.shape, tensor.stride(), tensor.dtype) == (
            own.shape,
            own.stride(),
            own.dtype,
        )
    assert not any(module.training for module in twin.modules())
    assert {id(module) for module in twin.modules()}.isdisjoint(map(id, model.modules()))


class _Colour(enum.Enum):
    RED = "red"


@dataclass
class _Helper:
    """An object that is no module and holds some."""

    layers: list[nn.Module]
    table: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def run(self, x: Tensor) -> Tensor:
        self.count += 1
        for layer in self.layers:
            x = layer(x)
        return x


class _Slotted:
    __slots__ = ("__hidden", "module")

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.__hidden = [module]

    @property
    def hidden(self) -> list[nn.Module]:
        return self.__hidden


class _Closing:
    """Gives back what it holds when it goes."""

    closed = 0

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __del__(self) -> None:
        type(self).closed += 1


class _Finalised(nn.Module):
    closed = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def __del__(self) -> None:
        type(self).closed += 1


UNSET = _Slotted.__new__(_Slotted)


class _Sentinel:
    pass


SENTINEL = _Sentinel()


def _holders(conv: nn.Module) -> dict[str, Any]:
    """Everything that can lead to a module."""
    cached = functools.lru_cache(conv.forward)
    counter = 0

    def count(x: Tensor) -> Tensor:
        nonlocal counter
        counter += 1
        return conv(x)

    def default(x: Tensor, layer: nn.Module = conv) -> Tensor:
        return layer(x)

    def keyword(x: Tensor, *, layer: nn.Module = conv) -> Tensor:
        return layer(x)

    default.layer = conv  # ty: ignore[unresolved-attribute]
    return {
        "list": [conv],
        "nested": [[{"a": (1, [conv])}]],
        "tuple": (conv, 1),
        "pair": Pair(conv, 2),
        "set": {conv},
        "frozenset": frozenset({conv}),
        "keys": {conv: 1, (conv, 2): 3},
        "ordered": OrderedDict(a=conv),
        "default dict": defaultdict(list, a=[conv]),
        "deque": deque([conv], maxlen=3),
        "method": conv.forward,
        "partial": functools.partial(F.relu, conv),
        "keywords": functools.partial(dict, layer=conv),
        "closure": count,
        "lambda": lambda x: conv(x),
        "default": default,
        "keyword": keyword,
        "cached": cached,
        "weak": weakref.ref(conv),
        "weak method": weakref.WeakMethod(conv.forward),
        "object": _Helper([conv]),
        "slots": _Slotted(conv),
        "closing": _Closing(conv),
        "bound builtin": [conv].append,
    }


def _reached(value: Any, seen: set[int]) -> list[nn.Module]:
    """The modules that a value leads to."""
    if id(value) in seen or isinstance(value, type(random)):
        return []
    seen.add(id(value))
    if isinstance(value, nn.Module):
        return [value]
    parts: list[Any] = []
    if isinstance(value, dict):
        parts += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts += list(value)
    for name in ("__self__", "__func__", "func", "args", "keywords", "__wrapped__", "__dict__"):
        parts.append(getattr(value, name, None))
    for name in ("__defaults__", "__kwdefaults__", "module", "hidden"):
        parts.append(getattr(value, name, None))
    parts += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    if isinstance(value, weakref.ref):
        parts.append(value())
    return [module for part in parts if part is not None for module in _reached(part, seen)]


@pytest.mark.parametrize("kind", _holders(nn.Conv2d(3, 3, 1)))
def test_whatever_leads_to_a_module_leads_to_its_twin(kind: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    held = _holders(model[0])[kind]
    model[0].__dict__["held"] = held
    assert set(_reached(held, set())) == {model[0]}
    twin = Twin(model)
    copy = twin.root[0].__dict__["held"]
    assert type(copy).__name__ == type(held).__name__
    assert copy is not held
    assert set(_reached(copy, set())) == {twin.root[0]}
    assert set(_reached(held, set())) == {model[0]}


def test_what_cannot_change_is_shared() -> None:
    model = nn.Module()
    lock, event = threading.Lock(), threading.Event()
    shared = {
        "function": F.relu,
        "boolean dispatch": F.max_pool2d,
        "class": nn.Conv2d,
        "member": _Colour.RED,
        "sentinel": SENTINEL,
        "sizes": (1, 2),
        "shape": torch.Size((1, 2)),
        "dtype": torch.float32,
        "operator": torch.ops.aten.relu.default,
        "builtin": torch.relu,
        "lock": lock,
        "event": event,
    }
    vars(model).update(shared)
    twin = Twin(model).root
    assert all(vars(twin)[name] is value for name, value in shared.items())


def test_what_is_one_object_stays_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    model[1].weight = model[0].weight
    model.alias = model[0]
    shared: list[Any] = [model]
    model.first, model.second = shared, shared
    vars(model)["tensor"] = model[0].weight
    twin = Twin(model).root
    assert twin[1].weight is twin[0].weight is twin.tensor
    assert twin.alias is twin[0]
    assert twin.first is twin.second
    assert twin.first[0] is twin


def test_tensors_are_on_meta_and_numbers_keep_their_value() -> None:
    model = nn.Module()
    model.register_buffer("running", torch.ones(()))
    model.plain, model.many = torch.ones(2), [torch.ones(2), 1.0]
    model.table = {"eps": torch.tensor(0.5), "grid": torch.ones(3, 4)}
    twin = Twin(model).root
    assert twin.running.is_meta
    assert twin.plain.is_meta
    assert twin.many[0].is_meta
    assert twin.table["grid"].is_meta
    assert twin.table["eps"].item() == 0.5
    twin.table["eps"].add_(1)
    assert model.table["eps"].item() == 0.5
    sparse = nn.Module()
    sparse.register_buffer("rows", torch.eye(3).to_sparse())
    assert Twin(sparse).root.rows.is_meta


def test_finalizers_of_copies_do_nothing() -> None:
    class Closing(_Closing):
        closed = 0

    model = nn.Sequential(_Finalised())
    model.handle = Closing(model)
    attnzoo.plan(model, ("match", {"pattern": "0"}), "se", example=SIZE)
    del model.handle
    assert (Closing.closed, _Finalised.closed) == (1, 0)
    del model
    assert _Finalised.closed == 1


def test_random_generators_are_copied() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.draws = nn.Conv2d(3, 3, 1), torch.Generator().manual_seed(3)
            self.python = random.Random(3)

        def forward(self, x: Tensor) -> Tensor:
            noise = torch.randn(3, generator=self.draws) * self.python.random()
            return self.conv(x) + noise.to(x.device)[:, None, None] + torch.rand(()).to(x.device)

    model = Noisy()
    drawn, state = model.draws.get_state(), torch.get_rng_state()
    probe(model, SIZE)
    assert torch.equal(model.draws.get_state(), drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.python.random() == random.Random(3).random()


class _Everything(nn.Module):
    """Does all that a forward pass can do to what its modules hold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
        self.helper = _Helper([self.conv, self.pool])
        self.run = self.helper.run
        self.seen: list[Tensor] = []
        self.stats: defaultdict[str, int] = defaultdict(int)
        self.past: deque[Tensor] = deque(maxlen=2)
        self.nested = {"a": [{"b": 0}]}
        note = self.seen.append
        self.conv.register_forward_hook(lambda module, args, y: note(y))
        self.pool.register_forward_pre_hook(functools.partial(self.count, "pools"))
        self.parent = [weakref.ref(self)]

    def count(self, name: str, module: nn.Module, args: Any) -> None:
        self.stats[name] += 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.parent[0]().run(x)  # ty: ignore[unresolved-attribute]
        self.past.append(y)
        self.nested["a"][0]["b"] += 1
        self.helper.table[str(len(self.helper.table))] = y
        self.handle = self.pool.register_forward_hook(lambda *_: None)
        self.added = nn.ReLU()
        return self.added(y) * self.stats["pools"]


def test_a_forward_pass_leaves_no_trace_anywhere() -> None:
    model = _Everything()
    untouched = snapshot(model)
    trace = probe(model, SIZE)
    assert [call.path for call in trace.calls] == ["", "conv", "pool"]
    assert snapshot(model) == untouched
    assert (model.helper.count, model.helper.table, model.seen) == (0, {}, [])
    assert (dict(model.stats), len(model.past), model.nested) == ({}, 0, {"a": [{"b": 0}]})
    assert not hasattr(model, "added")
    assert not model.pool._forward_hooks


def test_forwards_of_instances_run_on_the_twin() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    model = nn.Sequential(Inner(), Inner(), Inner(), nn.MaxPool2d(2)).train()
    own = model[0].forward
    model[0].forward = lambda x: own(x) * 2
    model[1].forward = functools.partial(Inner.forward, model[1])
    model[2].forward = own.__func__.__get__(model[2])
    untouched = snapshot(model)
    trace = probe(model, SIZE)
    assert [call.path for call in trace.calls if call.type == "BatchNorm2d"] == [
        "0.norm",
        "1.norm",
        "2.norm",
    ]
    assert snapshot(model) == untouched
    assert all(int(m.num_batches_tracked) == 0 for m in model.modules() if hasattr(m, "eps"))


def test_a_module_that_says_how_it_is_copied_is_not_asked() -> None:
    class Proud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def __deepcopy__(self, memo: Any) -> Proud:
            raise RuntimeError("there is only one")

        def __setattr__(self, name: str, value: Any) -> None:
            if "conv" in self.__dict__.get("_modules", {}):
                raise RuntimeError("closed")
            super().__setattr__(name, value)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = nn.Sequential(Proud(), nn.MaxPool2d(2))
    assert len(attnzoo.plan(model, "pre-pool", "se", example=SIZE).sites) == 1


def test_a_graph_module_and_parametrizations() -> None:
    inner = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)))
    model = nn.Sequential(inner, graph)
    untouched = snapshot(model)
    assert "1.0" in [call.path for call in probe(model, SIZE).calls]
    assert snapshot(model) == untouched


def test_a_module_outside_of_the_tree_is_not_run_either() -> None:
    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 3, 1), nn.MaxPool2d(2)
            self.teacher = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()]

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(x) - self.teacher[0](x))

    model = Teacher()
    assert probe(model, SIZE).stopped == ""
    assert int(model.teacher[0][1].num_batches_tracked) == 0
