"""Garbage collection waits during a probe, and goes on after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn

import attnzoo
from attnzoo.tracing.garbage import collection_paused


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if enabled else gc.disable)()


def test_it_goes_on_after_an_error() -> None:
    @collection_paused()
    def fail() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_what_somebody_switched_off_stays_off() -> None:
    gc.disable()
    with collection_paused(), collection_paused():
        pass
    assert not gc.isenabled()


def test_wrap_leaves_nothing_for_it() -> None:
    model = torchvision.models.squeezenet1_0()
    attnzoo.unwrap(attnzoo.wrap(model, "pre-pool", example=(3, 64, 64)))
    gc.collect()
    attnzoo.unwrap(attnzoo.wrap(model, "pre-pool", example=(3, 64, 64)))
    assert gc.collect() == 0


def test_verbs_leave_nothing_to_the_collector() -> None:
    """The twin of a network is gone with the verb, and not when the collector next looks."""
    model = torchvision.models.resnet18()
    attnzoo.wrap(model, "post-residual", "se", name="before")  # fills what is kept for later
    attnzoo.plan(model, "pre-pool", "se")
    gc.collect()
    gc.disable()
    attnzoo.plan(model, "pre-pool", "se")
    assert gc.collect() == 0
    attnzoo.wrap(model, "pre-pool", "se")
    assert gc.collect() == 0


class Looks(nn.Module):
    """Goes on by a number that it holds, and another of its map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 8, 3), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * float(self.scale)
        return y / 2 if y.max() > 1 else y


def test_nor_where_a_network_looks_at_values() -> None:
    model = nn.Sequential(Looks(), nn.ReLU(), nn.MaxPool2d(2))
    attnzoo.plan(model, "pre-pool", "se", example=(3, 32, 32))
    gc.collect()
    gc.disable()
    attnzoo.plan(model, "pre-pool", "se", example=(3, 32, 32))
    assert gc.collect() == 0
