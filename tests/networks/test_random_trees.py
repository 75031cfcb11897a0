"""Random module trees: attention goes in without changing a bit, or not at all, and comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Concat, Residual, TupleOutput, same_bits, snapshot

import attnzoo
from attnzoo.errors import AttnzooError
from attnzoo.hosts.attention import Attention

pytestmark = pytest.mark.no_cover

C = 4
SIZE = (C, 8, 8)


class ByHand(nn.Module):
    """Runs the entries of a Sequential or list in a loop, indexing it."""

    def __init__(self, layers: list[nn.Module], how: str) -> None:
        super().__init__()
        self.how = how
        self.model = nn.ModuleList(layers) if how == "list" else nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "children":
            for layer in self.model.children():
                x = layer(x)
        elif self.how == "index":
            for position in range(len(self.model)):
                x = self.model[position](x)
        else:
            for layer in self.model:
                x = layer(x)
        return x


class OwnChildren(nn.Module):
    """Runs over its own children."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        for number, layer in enumerate(layers):
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class OwnSequential(nn.Sequential):
    """A Sequential with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class Shortcut(nn.Module):
    """x + branch(x), in any of the ways people write it."""

    def __init__(self, branch: nn.Module, how: str) -> None:
        super().__init__()
        self.branch, self.how = branch, how
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.how == "drop":
            y = self.drop(y)
        if self.how == "scale":
            y = y * 0.5
        if y.shape != x.shape:
            return y
        if self.how == "in-place":
            y += x
            return F.relu_(y)
        return F.relu(x + y) if self.how == "relu" else y + x


class Functional(nn.Module):
    """Calls everything as functions."""

    def __init__(self, inner: nn.Module, pool: str) -> None:
        super().__init__()
        self.inner, self.pool = inner, pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(x))
        if self.pool == "max":
            return F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        if self.pool == "avg":
            return F.avg_pool2d(x, 3, 1, 1)
        return x


class Keyword(nn.Module):
    """Passes the map by name, next to a constant."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.gate(input=torch.ones(1, device=x.device))


class Twice(nn.Module):
    """Calls one module twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


class Alias(nn.Module):
    """Registers a module under two names, once inside a list."""

    def __init__(self, inner: nn.Module, first: bool) -> None:
        super().__init__()
        if first:
            self.inner = inner
            self.all = nn.ModuleList([inner])
        else:
            self.all = nn.ModuleList([inner])
            self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class SafePool(nn.MaxPool2d):
    """A pool that leaves maps alone that are too small."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if min(x.shape[2:]) > 1 else x


class ConcatMix(nn.Module):
    """A concatenation, mixed down to the channels it began with."""

    def __init__(self) -> None:
        super().__init__()
        self.concat, self.mix = Concat(C, 2), nn.Conv2d(C + 2, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.concat(x))


class NHWC(nn.Module):
    """Normalises with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(C, C, 3, padding=1),
    "pointwise": lambda: nn.Conv2d(C, C, 1),
    "depthwise": lambda: nn.Conv2d(C, C, 3, padding=1, groups=C),
    "norm": lambda: nn.BatchNorm2d(C),
    "relu": lambda: nn.ReLU(),
    "relu_": lambda: nn.ReLU(inplace=True),
    "identity": lambda: nn.Identity(),
    "pool": lambda: SafePool(2),
    "mean": lambda: nn.AvgPool2d(3, 1, 1),
    "residual": lambda: Residual(C),
    "concat": ConcatMix,
    "tuple": lambda: TupleOutput(C),
    "nhwc": NHWC,
}


@st.composite
def trees(draw: Any, depth: int = 3) -> nn.Module:
    """A module that maps (N, C, H, W) to (N, C, H', W')."""
    shared: list[nn.Module] = []

    def tree(depth: int) -> nn.Module:
        kinds = ["leaf", "leaf", "shared"]
        if depth:
            kinds += ["sequential", "sequential", "shortcut", "by-hand", "own", "functional"]
            kinds += ["keyword", "twice", "alias"]
        kind = draw(st.sampled_from(kinds))
        if kind == "shared" and shared:
            return draw(st.sampled_from(shared))
        if kind in ("leaf", "shared"):
            module = LEAVES[draw(st.sampled_from(sorted(LEAVES)))]()
        elif kind in ("sequential", "by-hand", "own"):
            layers = [tree(depth - 1) for _ in range(draw(st.integers(1, 4)))]
            if kind == "sequential":
                module = nn.Sequential(*layers)
            elif kind == "by-hand":
                module = ByHand(
                    layers, draw(st.sampled_from(["list", "iter", "index", "children"]))
                )
            elif draw(st.booleans()):
                module = OwnSequential(*layers)
            else:
                module = OwnChildren(layers)
        else:
            inner = tree(depth - 1)
            if kind == "shortcut":
                ways = ["plain", "relu", "drop", "scale", "in-place"]
                module = Shortcut(inner, draw(st.sampled_from(ways)))
            elif kind == "functional":
                module = Functional(inner, draw(st.sampled_from(["max", "avg", "none"])))
            elif kind == "keyword":
                module = Keyword(inner)
            elif kind == "twice":
                module = Twice(inner)
            else:
                module = Alias(inner, draw(st.booleans()))
        shared.append(module)
        return module

    root = tree(depth)
    if draw(st.booleans()):
        root = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), root, nn.Conv2d(C, C, 1))
    return root.train(draw(st.booleans()))


def _randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.abs_().add_(0.5)


def _run(model: nn.Module) -> Tensor:
    x = torch.randn((2, *SIZE), generator=torch.Generator().manual_seed(1))
    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        result = model(x)
    for module in training:
        module.training = True
    return result


POLICIES: list[Any] = [
    *[name for name in attnzoo.list_policies() if name != "match"],
    ("mbconv", {"position": "se"}),
    ("match", {"pattern": "*1"}),
    ("match", {"pattern": "*0", "where": "before"}),
    ("match", {"type": "Conv2d"}),
    ("match", {"type": "ReLU", "where": "before"}),
    ("match", {"type": "Sequential"}),
    ("match", {"type": "Shortcut", "where": "before"}),
    ("match", {"type": "Residual", "where": "replace"}),
    ("match", {"pattern": ""}),
    ["pre-pool", ("post-residual", {"occupied": "skip"}), ("in-residual", {"occupied": "stack"})],
]


def _hold(model: nn.Module, policy: Any, block: str = "se", **options: Any) -> bool:
    """Attention goes in without changing a bit and comes out; False if it was refused."""
    before, untouched = _run(model), snapshot(model)
    try:
        plan = attnzoo.plan(model, policy, block, example=SIZE, **options)
        assert snapshot(model) == untouched
        plan.apply()
    except AttnzooError:
        assert snapshot(model) == untouched
        assert same_bits(_run(model), before)
        return False
    ran: list[Attention] = []
    attention = [m for m in model.modules() if isinstance(m, Attention)]
    handles = [m.register_forward_hook(lambda m, *_: ran.append(m)) for m in attention]
    after = _run(model)
    for handle in handles:
        handle.remove()
    assert sorted(map(id, ran)) == sorted(map(id, attention))
    assert len(attention) == len(plan.sites) == len(plan.edits)
    assert same_bits(after, before)
    for site, module in zip(plan.sites, (_at(model, e.path) for e in plan.edits), strict=True):
        assert (module.channels, module.axes) == (site.channels, site.axes)
    assert snapshot(attnzoo.unwrap(model)) == untouched
    assert same_bits(_run(model), before)
    return True


def _at(model: nn.Module, path: str) -> Attention:
    module = model.get_submodule(path)
    assert isinstance(module, Attention)
    return module


@pytest.mark.parametrize("number", range(len(POLICIES)), ids=lambda i: str(POLICIES[i]))
@settings(max_examples=40)
@given(model=trees())
def test_nothing_breaks(number: int, model: nn.Module) -> None:
    _randomise(model)
    _hold(model, POLICIES[number])


@settings(max_examples=60)
@given(model=trees(), one=st.sampled_from(POLICIES), other=st.sampled_from(POLICIES))
def test_two_wraps_come_out_together(model: nn.Module, one: Any, other: Any) -> None:
    _randomise(model)
    before, untouched = _run(model), snapshot(model)
    wrapped = 0
    for policy in (one, other):
        state = snapshot(model)
        try:
            attnzoo.wrap(model, policy, "eca", example=SIZE)
            wrapped += 1
        except AttnzooError:
            assert snapshot(model) == state
    assert same_bits(_run(model), before)
    if wrapped:
        attnzoo.unwrap(model)
    assert snapshot(model) == untouched


@settings(max_examples=60)
@given(model=trees(), policy=st.sampled_from(POLICIES), keep=st.data())
def test_parts_and_wholes_come_out_together(model: nn.Module, policy: Any, keep: Any) -> None:
    _randomise(model)
    before, untouched = _run(model), snapshot(model)
    parts = [module for module in model.modules() if not isinstance(module, nn.ModuleList)]
    wrapped = 0
    for part in (keep.draw(st.sampled_from(parts)), model, keep.draw(st.sampled_from(parts))):
        state = snapshot(model)
        try:
            attnzoo.wrap(part, policy, "eca", example=SIZE)
            wrapped += 1
        except AttnzooError:
            assert snapshot(model) == state
    assert same_bits(_run(model), before)
    if wrapped:
        attnzoo.unwrap(model)
    assert snapshot(model) == untouched


def test_the_trees_are_not_refused_all_the_time() -> None:
    """The property above says little if no attention ever goes in."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(C, C, 1),
        Shortcut(nn.Sequential(nn.Conv2d(C, C, 1), nn.ReLU()), "drop"),
        ByHand([Residual(C), SafePool(2)], "index"),
        Functional(nn.Conv2d(C, C, 1), "max"),
        ConcatMix(),
    )
    for policy in ("pre-pool", "post-residual", "in-residual", "stage-end", "auto"):
        assert _hold(model, policy), policy
