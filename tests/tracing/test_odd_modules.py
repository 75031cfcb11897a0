"""Networks whose modules answer otherwise than torch's do when they are listed or compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import PlainVGG, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import NoSitesError, UnsupportedModelError

SIZE = (3, 16, 16)


class _Hiding(PlainVGG):
    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        yield "", self


class _Refusing(PlainVGG):
    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not to be listed")


class _Strict(nn.Conv2d):
    __hash__ = nn.Module.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")


class _Unhashable(nn.Conv2d):
    def __eq__(self, other: object) -> bool:
        return self is other


def _comparing() -> nn.Module:
    return nn.Sequential(_Strict(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), _Strict(8, 8, 3), nn.ReLU())


@pytest.mark.filterwarnings("ignore:the attention was trained in another backbone")
@pytest.mark.parametrize("build", [_Hiding, _comparing])
def test_what_a_network_says_of_its_modules_is_not_asked(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    model, file = build().eval(), tmp_path / "a.safetensors"
    untouched, before = snapshot(model), outputs(model)
    attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
    assert same_bits(outputs(model), before)
    sites = len(attnzoo.attention_modules(model))
    assert sites == len(attnzoo.plan(build(), "pre-pool", "se", example=SIZE).sites)
    attnzoo.save(model, file)
    assert len(attnzoo.attention_modules(attnzoo.load(file, build()))) == sites
    attnzoo.unwrap(model)
    assert snapshot(model) == untouched
    assert same_bits(outputs(model), before)


def test_nor_is_one_that_does_not_say() -> None:
    model = attnzoo.wrap(_Refusing(), "pre-pool", "se", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 2
    assert list(attnzoo.unwrap(model).state_dict()) == list(PlainVGG().state_dict())


@pytest.mark.parametrize("build", [_Hiding, _comparing])
def test_its_cost_is_that_of_the_network(build: Callable[[], nn.Module]) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    same = PlainVGG() if build is _Hiding else plain
    assert attnzoo.cost(build(), SIZE).macs == attnzoo.cost(same, SIZE).macs


def test_modules_that_cannot_be_told_apart_are_refused() -> None:
    model = nn.Sequential(nn.ReLU(), _Unhashable(3, 8, 3))
    for verb in (attnzoo.plan, attnzoo.wrap):
        with pytest.raises(UnsupportedModelError, match=r"'1' \(_Unhashable\).*__hash__ = nn"):
            verb(model, "pre-pool", "se", example=SIZE)
    with pytest.raises(UnsupportedModelError, match=r"the model \(_Unhashable\)"):
        attnzoo.plan(model[1], "pre-pool", "se", example=SIZE)


class _InPart(PlainVGG):
    """Its first layers are frozen by the decorator that is meant for whole predictions."""

    @torch.inference_mode()
    def first(self, x: Tensor) -> Tensor:
        return self.features[:3](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features[3:](self.first(x).clone())).flatten(1))


class _Whole(PlainVGG):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_where_no_gradient_flows_is_no_place() -> None:
    (site,) = (plan := attnzoo.plan(_InPart(), "pre-pool", "se", example=SIZE)).sites
    assert site.path == "features.6"
    ((path, reason),) = [(place.path, place.reason) for place in plan.skipped]
    assert (path, "torch.inference_mode()" in reason) == ("features.2", True)
    match: Any = ("match", {"pattern": "features.2", "where": "before"})
    for model, policy in ((_InPart(), match), (_Whole(), "pre-pool")):
        with pytest.raises(NoSitesError, match=r"features\.2: .*inference_mode\(\)"):
            attnzoo.wrap(model, policy, "se", example=SIZE)
