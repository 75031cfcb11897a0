"""A forward pass that could not be followed to its end: what may be called again is no place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zoo import outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import SiteError
from attnzoo.tracing.probe import probe

SIZE = (3, 16, 16)


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2)
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        self.head = nn.Linear(3, 2)


class _Twice(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.pool(self.conv(x)))
        if len(y[y > -1e9]):
            y = self.inner(self.conv(y))
        return self.head(y.mean((2, 3)))


class _Loops(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(x)
        for _ in range(3):
            y = self.inner(self.conv(y))
            if not len(y[y > -1e9]):
                break
        return self.head(y.mean((2, 3)))


class _ByText(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.pool(self.conv(x)))
        if len(y[y > -1e9]):
            y = getattr(self, "conv")(y)  # noqa: B009
        return self.head(y.mean((2, 3)))


class _InAList(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.pool(self.conv(x)))
        if len(y[y > -1e9]):
            y = torch.cat([self.conv(part) for part in (y, y)])
        return self.head(y.mean((2, 3)))


class _Once(_Branches):
    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.pool(self.conv(x)))
        if len(y[y > -1e9]):
            y = y * 2
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("net", [_Twice, _Loops, _ByText, _InAList])
def test_what_is_named_after_the_stop_may_be_called_again(net: type[_Branches]) -> None:
    model = net()
    untouched = snapshot(model)
    trace = probe(model, SIZE)
    assert trace.stopped
    assert "conv" in trace.ahead
    assert trace.times_called["conv"] == 2
    where = "after" if net is _Loops else "before"
    with pytest.raises(SiteError, match="called 2 times"):
        attnzoo.wrap(model, ("match", {"pattern": "conv", "where": where}), "se", example=SIZE)
    assert snapshot(model) == untouched


@pytest.mark.parametrize("net", [_Twice, _ByText, _InAList])
def test_the_place_is_taken_by_another_module_that_runs_once(net: type[_Branches]) -> None:
    model = net()
    plan = attnzoo.plan(model, ("match", {"pattern": "conv"}), "se", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["pool.attention"]
    plan.apply()
    runs: list[int] = []
    model.pool.attention.register_forward_hook(lambda *_: runs.append(1))
    outputs(model)
    assert runs == [1]


def test_what_is_not_named_again_is_a_place() -> None:
    model = _Once()
    trace = probe(model, SIZE)
    assert trace.stopped
    assert trace.ahead == {"head"}
    before = outputs(model)
    attnzoo.wrap(model, ("match", {"pattern": "conv"}), "se", example=SIZE)
    assert same_bits(outputs(model), before)
