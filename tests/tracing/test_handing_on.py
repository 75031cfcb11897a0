"""Modules that return what they were given: attention behind them must be seen by who reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import AttnzooError, NoSitesError, SiteError
from attnzoo.hosts.attention import Attention
from attnzoo.tracing.probe import probe

SIZE = (3, 16, 16)


class _Block(nn.Module):
    """A residual block whose activation is called as `use` says."""

    def __init__(self, use: Callable[[Any, Tensor], Tensor], act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True) if act is None else act
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return x + self.use(self, self.conv(x))


def _net(*args: Any) -> nn.Module:
    last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), _Block(*args), last)


def _dropped(block: Any, y: Tensor) -> Tensor:
    block.act(y)
    return y


def _kept(block: Any, y: Tensor) -> Tensor:
    return block.act(y)


def _nested() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.ReLU(inplace=True)))


ACTS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "nested": _nested,
    "dropout": lambda: nn.Dropout(inplace=True),
    "identity": nn.Identity,
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("where", ["after", "before", "replace"])
def test_a_place_where_attention_is_not_read_is_refused(act: str, where: str) -> None:
    model = _net(_dropped, ACTS[act]())
    untouched = snapshot(model)
    if where == "before" and act in ("dropout", "identity"):
        return  # nothing is changed there: the place is refused because it is dead
    with pytest.raises(SiteError, match=r"is not read|which is read itself"):
        attnzoo.wrap(model, ("match", {"pattern": "1.act", "where": where}), "se", example=SIZE)
    assert snapshot(model) == untouched


@pytest.mark.parametrize("act", ACTS)
def test_a_policy_takes_a_place_that_is_read(act: str) -> None:
    model = _net(_dropped, ACTS[act]())
    before = outputs(model)
    try:
        attnzoo.wrap(model, "in-residual", "se", example=SIZE, start="paper")
    except NoSitesError:
        assert act in ("dropout", "identity")  # a linear branch is none
        return
    assert not same_bits(outputs(model), before)
    model(torch.randn(2, *SIZE)).sum().backward()
    blocks = attnzoo.attention_modules(model).values()
    assert all(p.grad is not None and p.grad.any() for b in blocks for p in b.parameters())
    attnzoo.unwrap(model)
    attnzoo.wrap(model, "in-residual", "se", example=SIZE)
    assert same_bits(outputs(model), before)


@pytest.mark.parametrize("act", ACTS)
def test_where_the_result_is_read_nothing_changes(act: str) -> None:
    model = _net(_kept, ACTS[act]())
    trace = probe(model, SIZE)
    assert trace.unread == trace.altering == frozenset()
    for where in ("before", "after"):
        before = outputs(model)
        attnzoo.wrap(model, ("match", {"pattern": "1.act", "where": where}), "se", example=SIZE)
        assert same_bits(outputs(model), before)
        for module in model.modules():
            if isinstance(module, Attention):
                module.gamma.data.fill_(0.5)
        assert not same_bits(outputs(model), before)
        attnzoo.unwrap(model)


def test_who_reads_both_is_served() -> None:
    """The shortcut is read by its own name after an activation in place, the branch is not."""

    def both(block: Any, y: Tensor) -> Tensor:
        return y * 2 + block.act(y)

    def late(block: Any, y: Tensor) -> Tensor:
        z = block.act(y)
        return y * 2 + z

    for use, altering in ((both, False), (late, True)):
        model = _net(use)
        trace = probe(model, SIZE)
        act = next(call for call in trace.calls if call.path == "1.act")
        assert trace.unread == frozenset()
        assert (act.index in trace.altering) is altering
        before = outputs(model)
        attnzoo.wrap(model, ("match", {"pattern": "1.act"}), "se", example=SIZE)
        assert same_bits(outputs(model), before)
        attnzoo.unwrap(model)


def test_a_block_that_changes_its_input_which_is_read_later() -> None:
    class Preactivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.conv = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.act(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 8, 1), Preactivated()

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.inner(x) + x  # of x after the activation

    model = Net()
    before, untouched = outputs(model), snapshot(model)
    for pattern in ("inner", "inner.act"):
        at = ("match", {"pattern": pattern, "where": "before"})
        with pytest.raises(SiteError, match="which is read itself"):
            attnzoo.wrap(model, at, "se", example=SIZE)
    assert snapshot(model) == untouched
    for policy in ("in-residual", "post-residual", ("match", {"pattern": "inner"})):
        try:
            attnzoo.wrap(model, policy, "se", example=SIZE)
        except AttnzooError:
            assert snapshot(model) == untouched
            continue
        assert same_bits(outputs(model), before)
        attnzoo.unwrap(model)


def test_an_attribute_of_a_tensor_goes_on_with_it() -> None:
    class Marks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.same = nn.Conv2d(3, 4, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Any = self.conv(x)
            y.scale = 2.0
            return self.same(y).scale * y

    assert probe(Marks(), SIZE).stopped == ""
