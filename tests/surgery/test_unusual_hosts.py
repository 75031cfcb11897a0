"""Modules shared, run by hand, read or called in unusual ways: attention works or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refusal import refused
from tasks import let_attention_in
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import SIZE, HandIterated, PlainVGG, Residual, TupleOutput, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import AttnzooError, NoSitesError, SiteError, SurgeryError
from attnzoo.hosts.attention import Attended


class _TwoNames(nn.Module):
    """A pool registered under two names, called once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.layers = nn.ModuleList([self.conv, self.pool])
        self.dropout = self.alias = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.dropout(x)


def test_a_module_under_two_names_is_changed_under_both() -> None:
    model = _TwoNames()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert model.pool is model.layers[1]
    assert isinstance(model.pool, Attended)
    assert same_bits(outputs(model), before)
    let_attention_in(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


class _SharedPool(nn.Module):
    """One pool for all places, as many networks written by hand have it."""

    def __init__(self, act1: Any, act2: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.act1, self.act2 = act1, act2
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act1(self.conv1(x)))
        return self.pool(self.act2(self.conv2(x)))


@pytest.mark.parametrize(
    ("acts", "paths"),
    [
        ((nn.ReLU(), nn.ReLU()), ["act1.attention", "act2.attention"]),
        ((F.relu, F.relu), ["conv1.attention", "conv2.attention"]),
    ],
)
def test_a_shared_pool_takes_attention_after_what_feeds_it(acts: Any, paths: list[str]) -> None:
    model = _SharedPool(*acts)
    before, untouched = outputs(model), snapshot(model)
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    assert [edit.path for edit in plan.edits] == paths
    plan.apply()
    let_attention_in(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_shared_pool_fed_by_no_single_module_is_left_out() -> None:
    model = _SharedPool(F.relu, lambda x: x + x.mean())
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["conv1.attention"]
    ((path, reason),) = [(skipped.path, skipped.reason) for skipped in plan.skipped]
    assert path == "pool"
    assert reason == "it is called 2 times, and no single module makes its input"
    model = _SharedPool(*[lambda x: x + x.mean()] * 2)
    refused(model, NoSitesError, "at pool: it is called 2 times", "pre-pool")


def test_a_site_at_the_root() -> None:
    root = ("match", {"pattern": ""})
    model = PlainVGG()
    refused(model, SiteError, "feature", root)  # its result is a matrix
    leaf = nn.Conv2d(3, 4, 3)
    refused(leaf, SiteError, "the model itself", root)
    in_place_of = ("match", {"pattern": "", "where": "replace"})
    refused(nn.Conv2d(3, 3, 1), SiteError, "the model itself", in_place_of)

    class Map(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x)) + 1

    for where in ("before", "after"):
        for composite in (Map(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())):
            before, untouched = outputs(composite), snapshot(composite)
            attnzoo.wrap(composite, ("match", {"pattern": "", "where": where}), example=SIZE)
            assert same_bits(outputs(composite), before)
            let_attention_in(composite)
            assert not same_bits(outputs(composite), before)
            assert snapshot(attnzoo.unwrap(composite)) == untouched


def test_a_sequential_iterated_by_hand_gets_no_entry() -> None:
    for policy in ("pre-pool", "post-residual", ("match", {"pattern": "model.?"})):
        model = HandIterated(3)
        before, untouched = outputs(model), snapshot(model)
        attnzoo.wrap(model, policy, example=SIZE)
        assert len(model.model) == 5
        assert same_bits(outputs(model), before)
        let_attention_in(model)
        assert not same_bits(outputs(model), before)
        assert snapshot(attnzoo.unwrap(model)) == untouched


class _IteratesChildren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class _IteratesItself(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x) + 0.0
        return x


class _CallsSuper(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.0


class _IteratesInAHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def run(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x) * 1.0


@pytest.mark.parametrize(
    "inner",
    [
        lambda: _IteratesChildren(),
        lambda: _IteratesInAHelper(),
        lambda: _IteratesItself(nn.Conv2d(4, 4, 1), nn.ReLU()),
        lambda: _CallsSuper(nn.Conv2d(4, 4, 1), nn.ReLU()),
    ],
    ids=["children", "helper", "itself", "super"],
)
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_block_that_runs_over_its_own_children(inner: Any, where: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), inner()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(F.relu(self.stem(x)))) * 2

    model = Model()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "inner", "where": where}), example=SIZE)
    assert same_bits(outputs(model), before)
    let_attention_in(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_host_whose_attributes_are_read_answers() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.pool(F.relu(self.conv(x)))) * self.pool.kernel_size

    model = Reads()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_host_held_outside_the_module_tree_too_is_refused() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
            self.steps = [self.conv, F.relu, self.pool]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = step(x)
            return x

    refused(Holds(), SurgeryError, "ran 0 times", "pre-pool")


def test_a_module_called_by_keyword() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.block, self.pool = nn.Conv2d(3, 4, 3), Residual(4), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(input=self.block(x=self.conv(input=x)) * 2)

    refused(ByName(), AttnzooError, "no single|NCHW|feature map", "pre-pool")
    model = ByName()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "post-residual", example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_constant_first_argument_is_not_taken_for_the_map() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, weight: Tensor, x: Tensor) -> Tensor:
            return F.relu(self.conv(x)) * weight

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), Weighted()
            self.register_buffer("weight", torch.ones(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(self.weight, F.relu(self.stem(x)))) * 2

    for where in ("before", "replace"):
        refused(
            Model(),
            SiteError,
            "exactly one feature",
            ("match", {"pattern": "inner", "where": where}),
        )
    model = Model()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "inner"}), example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_module_that_returns_a_tuple() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), TupleOutput(4), nn.MaxPool2d(2))
    refused(model, SiteError, "no single tensor|exactly one", ("match", {"type": "Branches"}))
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"type": "Branches", "where": "before"}), example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched
