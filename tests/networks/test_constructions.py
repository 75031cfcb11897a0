"""Places in single constructions that networks written by hand have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from handwritten import SIZE, Dense, SuperResolution, Written, places
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv, same_bits

import attnzoo
from attnzoo.errors import NoSitesError
from attnzoo.policies.auto import choose
from attnzoo.registry import POLICIES
from attnzoo.tracing.probe import probe
from attnzoo.tracing.trace import Trace


class Handing(nn.Module):
    """A block that at some places of a network does nothing, and hands on what it is given."""

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.body = conv(8, 8) if active else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.body is None else self.body(x) + x


class AddsByModule(nn.Module):
    """The sum with the shortcut is a module's, as networks that are quantised have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.last = conv(3, 8), conv(8, 8), nn.Conv2d(8, 4, 1)
        self.add = nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.add.add(self.body(x), x))


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class SumsByModule(AddsByModule):
    def __init__(self) -> None:
        super().__init__()
        self.add = Sum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.add(self.body(x), x))


def test_sums_that_are_modules() -> None:
    assert places(AddsByModule(), "post-residual") == "before last"
    assert places(SumsByModule(), "post-residual") == "after add"


def test_a_long_way_from_the_last_convolution_to_the_output() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = conv(3, 8), nn.Conv2d(8, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.last(self.conv(x))
            for _ in range(60):  # twice as many ways back each time
                y = y * 0.5 + y
            return y

    assert places(Doubling(), "stage-end") == "after conv.2"


def test_a_place_that_two_blocks_share_is_one_place() -> None:
    model = nn.Sequential(conv(3, 8), Handing(True), Handing(False), Handing(True))
    assert places(model, "post-residual") == "after 1, after 3"


@pytest.mark.parametrize("only", ["in-residual", "pre-pool"])
def test_auto_takes_what_has_a_place_at_all(only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = probe(nn.Conv2d(3, 3, 1), SIZE)
    assert choose(trace) == "stage-end"
    place = [trace.after(trace.calls[0])]
    for name in ("stage-end", "post-residual", "in-residual", "pre-pool"):

        def find(trace: Trace, trunk_only: bool = False, name: str = name) -> list[Any]:
            return place if name == only and not trunk_only else []

        monkeypatch.setitem(POLICIES._specs, name, replace(POLICIES[name], find=find))
    assert choose(trace) == only


def test_a_pool_in_the_stem_makes_no_vgg() -> None:
    stem = conv(3, 8, pool=True)
    strides = [nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    (policy,) = attnzoo.plan(nn.Sequential(stem, *strides), example=SIZE).recipe.policies
    assert policy.name == "stage-end"


def test_a_pool_for_two_maps_leaves_the_others_their_places() -> None:
    class TwoInOne(nn.Module):
        """One pool for a map and for the same map moved, which no module makes (Shake-Shake)."""

        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = nn.AvgPool2d(2), nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.cat([self.pool(x), self.pool(x.roll(1, -1))], 1))

    model = nn.Sequential(conv(3, 8, pool=True), TwoInOne(), nn.MaxPool2d(2))
    assert places(model, "pre-pool") == "before 0.3, before 2"
    with pytest.raises(NoSitesError, match="at pool: it is called 2 times, and no single module"):
        attnzoo.plan(TwoInOne(), "pre-pool", example=(8, 16, 16))


@pytest.mark.parametrize("count", [3, 4])
def test_a_long_shortcut_around_blocks_makes_no_block_of_them(count: int) -> None:
    class Group(nn.Module):
        """RCAN's has twenty blocks, and is a stage; ESRGAN's has three, and is the block."""

        def __init__(self) -> None:
            super().__init__()
            blocks = [SuperResolution.Block() for _ in range(count)]
            self.body = nn.Sequential(*blocks, nn.Conv2d(8, 8, 3, padding=1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + x

    model = nn.Sequential(conv(3, 8), Group(), Group())
    blocks = [f"after {group}.body.{i}" for group in (1, 2) for i in range(count)]
    assert places(model, "post-residual") == (
        "after 1, after 2" if count == 3 else ", ".join(blocks)
    )


def test_one_transition_among_many_levels_makes_no_densenet() -> None:
    levels = [conv(3, 8, pool=True), *(conv(8, 8, pool=True) for _ in range(3))]
    dense = [Dense.Layer(8), Dense.Layer(14), Dense.Layer(20), Dense.Transition(26), conv(13, 13)]
    trace = probe(nn.Sequential(*dense), (8, 32, 32))
    assert choose(trace) == "transition"
    trace = probe(nn.Sequential(*levels, *dense), (3, 64, 64))
    assert len(attnzoo.plan(nn.Sequential(*levels, *dense), "transition").sites) == 1
    assert choose(trace) == "pre-pool"


def test_a_gate_without_a_module_leaves_no_place_on_the_branch() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = conv(8, 8), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y = y * torch.sigmoid(self.gate(F.avg_pool2d(y, y.shape[-1])))
            return F.relu(y + x)

    model = nn.Sequential(conv(3, 8), Gated())
    with pytest.raises(NoSitesError, match="at 1: no module makes the feature map there"):
        attnzoo.plan(model, "in-residual", example=SIZE)
    assert places(model, "post-residual") == "after 1"


def test_one_network_for_two_images_is_wrapped_by_itself() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Written()

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return (self.backbone(one) - self.backbone(other)).norm(dim=1)

    model, pair = Twins().eval(), (torch.rand(2, *SIZE), torch.rand(2, *SIZE))
    before = model(*pair)
    line = r"attnzoo.wrap\(model.backbone, …, example=\(3, 32, 32\)\)"
    with pytest.raises(NoSitesError, match=f"called 2 times in one forward pass.*{line}"):
        attnzoo.wrap(model, "pre-pool", example=pair)
    attnzoo.wrap(model.backbone, "in-residual", example=SIZE)
    assert same_bits(model(*pair), before)


def test_maps_of_one_dimension_are_named() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.MaxPool1d(2))
    with pytest.raises(NoSitesError, match=r"\(1, 8, 30\).*\(N, C, H, W\)"):
        attnzoo.plan(model, example=torch.rand(1, 3, 32))
