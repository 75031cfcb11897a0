"""Who reads the positions of a module's children, however the code says so."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import outputs, same_bits, snapshot

import attnzoo
from attnzoo.hosts.attention import Attention
from attnzoo.tracing.probe import probe

SIZE = (3, 16, 16)


def _length(layers: nn.Sequential) -> int:
    return len(layers)


class _Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))


class _Reading(_Trunk):
    @property
    def depth(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)


class _Net(nn.Module):
    """Divides by what `read` finds out about the layers of its trunk."""

    def __init__(self, read: Callable[[Any], float], trunk: type[nn.Module] = _Trunk) -> None:
        super().__init__()
        self.trunk = trunk()
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk.layers(x).mean((2, 3)) / self.read(self)


_READ: dict[str, Callable[[Any], float]] = {
    "an attribute of an attribute": lambda net: len(net.trunk.layers),
    "getattr": lambda net: len(getattr(net.trunk, "layers")),  # noqa: B009
    "get_submodule": lambda net: len(net.get_submodule("trunk.layers")),
    "a helper": lambda net: _length(net.trunk.layers),
    "a property": lambda net: net.trunk.depth,
    "map": lambda net: sum(map(len, [net.trunk.layers])),
    "its own __iter__": lambda net: len(list(net.trunk)),
    "enumerate": lambda net: [i for i, m in enumerate(net.trunk.layers)][-1],
    "sum": lambda net: sum(1 for _ in net.trunk.layers),
    "children": lambda net: len(list(net.trunk.layers.children())),
    "named_children": lambda net: len(dict(net.trunk.layers.named_children())),
    "_modules": lambda net: len(net.trunk.layers._modules),
    "vars": lambda net: len(vars(net.trunk.layers)["_modules"].values()),
    "reversed": lambda net: len(list(reversed(net.trunk.layers._modules))),
    "an index": lambda net: net.trunk.layers[2].kernel_size,
    "a negative index": lambda net: net.trunk.layers[-2].inplace + 2,
    "itemgetter": lambda net: operator.itemgetter(2)(net.trunk.layers).kernel_size,
    "a slice": lambda net: len(net.trunk.layers[1:]),
    "islice": lambda net: len(list(islice(net.trunk.layers, 1, None))),
    "unpacked": lambda net: len([*net.trunk.layers]),
    "a dict": lambda net: len(dict(net.trunk.layers._modules)),
    "zip": lambda net: len(list(zip(net.trunk.layers, range(9)))),  # noqa: B905
    "length_hint": lambda net: operator.length_hint(net.trunk.layers),
}


@pytest.mark.parametrize("how", _READ)
def test_no_entry_goes_where_positions_are_read(how: str) -> None:
    model = _Net(_READ[how], _Reading if how in ("a property", "its own __iter__") else _Trunk)
    assert "trunk.layers" in probe(model, SIZE).positions_read
    before, untouched = outputs(model, torch.ones(1, *SIZE)), snapshot(model)
    for policy in ("pre-pool", ("match", {"type": "Conv2d"})):
        plan = attnzoo.plan(model, policy, "se", example=SIZE)
        assert [edit.mechanism for edit in plan.edits] == ["wrap"]
        try:
            plan.apply()
        except attnzoo.errors.SurgeryError as error:  # the code wants attributes of the layer
            assert "Attended" in str(error)  # noqa: PT017
            assert snapshot(model) == untouched
            continue
        assert same_bits(outputs(model, torch.ones(1, *SIZE)), before)
        assert snapshot(attnzoo.unwrap(model)) == untouched


_NAMED: dict[str, Callable[[Any], float]] = {
    "not at all": lambda net: 1,
    "by name": lambda net: net.trunk.layers.get_submodule("2").kernel_size,
    "as truth": lambda net: 1 if net.trunk.layers else 2,
    "as untruth": lambda net: 2 if not net.trunk.layers else 1,
    "for parameters": lambda net: len(list(net.trunk.layers.parameters())),
    "for a state dict": lambda net: len(net.trunk.layers.state_dict()),
    "to set a mode": lambda net: net.trunk.layers.train(False).training + 1,
    "to show it": lambda net: min(len(repr(net.trunk.layers)), 1),
}


@pytest.mark.parametrize("how", _NAMED)
def test_an_entry_may_go_where_they_are_not(how: str) -> None:
    model = _Net(_NAMED[how])
    assert probe(model, SIZE).positions_read == set()
    plan = attnzoo.plan(model, "pre-pool", "se", example=SIZE)
    assert [edit.mechanism for edit in plan.edits] == ["insert"]


class _Block(nn.Module):
    """A block of two layers, run in the order that `run` says."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _all(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class _Own(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return _all(self, x)


class _Sliced(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return _all(self[:-1], x)


class _Super(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class _ByName(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + 1


@pytest.mark.parametrize(
    ("block", "mechanism"),
    [
        (lambda: _Block(lambda self, x: self.act(self.conv(x))), "hook"),
        (lambda: _Block(lambda self, x: _all(self.children(), x)), "wrap"),
        (lambda: _Block(lambda self, x: _all(dict(self.named_children()).values(), x)), "wrap"),
        (lambda: _Block(lambda self, x: _all(self._modules.values(), x)), "wrap"),
        (lambda: _Block(lambda self, x: _all([*vars(self)["_modules"].values()], x)), "wrap"),
        (lambda: _Own(nn.Conv2d(3, 3, 1), nn.ReLU()), "wrap"),
        (lambda: _Sliced(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Tanh()), "wrap"),
        (lambda: _Super(nn.Conv2d(3, 3, 1), nn.ReLU()), "wrap"),
        (_ByName, "hook"),
    ],
    ids=["names", "children", "named", "_modules", "vars", "own", "sliced", "super", "by name"],
)
def test_no_hooked_child_runs_with_the_others(
    block: Callable[[], nn.Module], mechanism: str
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 3, 1), block()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.stem(x).relu()).sigmoid() * 2

    model = Model()
    before = outputs(model)
    plan = attnzoo.plan(model, ("match", {"pattern": "inner"}), "se", example=SIZE)
    assert [edit.mechanism for edit in plan.edits] == [mechanism]
    plan.apply()
    assert same_bits(outputs(model), before)
    runs: list[int] = []
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda *_: runs.append(1))
    outputs(model)
    assert runs == [1]
