"""Whatever a policy or a block does wrong, the model stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refusal import refused
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, SIZE, PlainVGG

import attnzoo
from attnzoo.errors import NoSitesError, OptionError, SiteError, SurgeryError
from attnzoo.registry import register_block, register_policy


@pytest.mark.usefixtures("registries")
def test_a_policy_that_raises_midway() -> None:
    @register_policy("broken")
    def broken(trace: Any) -> Any:
        yield trace.before(next(call for call in trace.calls if call.type == "MaxPool2d"))
        raise RuntimeError("half way")

    refused(PlainVGG(), RuntimeError, "half way", "broken")
    refused(PlainVGG(), RuntimeError, "half way", ["pre-pool", "broken"])


@pytest.mark.usefixtures("registries")
def test_a_broken_policy_does_not_hide_why_another_found_nothing() -> None:
    @register_policy("broken")
    def broken(trace: Any) -> Any:
        raise RuntimeError("never mind")

    @register_policy("demanding")
    def demanding(trace: Any, pattern: str) -> Any:
        return []

    refused(PlainVGG(), NoSitesError, r"pre-pool \(2\)", "post-residual")


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("result", [None, 3, ["features.0"], [None], [("features.0", "after")]])
def test_a_policy_that_returns_something_else(result: Any) -> None:
    register_policy("odd")(lambda trace: result)
    refused(PlainVGG(), SiteError, "trace.before", "odd")


@pytest.mark.usefixtures("registries")
def test_a_site_made_by_hand_is_refused() -> None:
    site = attnzoo.plan(PlainVGG(), "pre-pool", example=SIZE).sites[0]
    by_hand = type(site)(site.path, site.where, site.channels, site.height, site.width, site.stage)
    register_policy("by-hand")(lambda trace: [by_hand])
    refused(PlainVGG(), SiteError, "trace.before", "by-hand")


@pytest.mark.usefixtures("registries")
def test_a_block_whose_constructor_raises_at_the_third_site() -> None:
    built = []

    @register_block("third-breaks")
    class ThirdBreaks(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
            if not self.weight.is_meta:  # not while the plan is made
                built.append(channels)
                if len(built) == 3:
                    raise ValueError("no third one")

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight

    model = BACKBONES["vgg11"]()
    refused(
        model,
        SiteError,
        "cannot be built for 256 channels: ValueError: no third",
        "pre-pool",
        "third-breaks",
    )
    assert built == [64, 128, 256]


@pytest.mark.usefixtures("registries")
def test_a_block_whose_constructor_always_raises() -> None:
    @register_block("never")
    class Never(nn.Module):
        def __init__(self, channels: int) -> None:
            raise ZeroDivisionError("no")

    refused(PlainVGG(), SiteError, "ZeroDivisionError: no", "pre-pool", "never")
    register_block("no-module")(lambda channels: torch.relu)
    refused(PlainVGG(), OptionError, "nn.Module", "pre-pool", "no-module")


class _Reshaping(nn.Module):
    def __init__(self, channels: int, how: str = "pool") -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Any:
        if self.how == "pool":
            return F.avg_pool2d(x, 2)
        if self.how == "channels":
            return torch.cat([x, x], 1)
        if self.how == "tuple":
            return x, x
        if self.how == "none":
            return None
        if self.how == "batch":
            return x[:1].expand(3, -1, -1, -1)
        raise RuntimeError("cannot run")


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("how", ["pool", "channels", "tuple", "none", "batch", "raise"])
def test_a_block_that_does_not_keep_the_shape(how: str) -> None:
    register_block("reshaping")(_Reshaping)
    message = "fails on a map" if how == "raise" else "must keep the shape"
    refused(PlainVGG(), SiteError, message, "pre-pool", "reshaping", how=how)


@pytest.mark.usefixtures("registries")
def test_a_block_that_changes_its_input_in_place() -> None:
    @register_block("in-place")
    class InPlace(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0.5)

    @register_block("in-place-activation")
    class InPlaceActivation(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm, self.act = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.act(x))

    # the identity would be taken from what the block left of x
    refused(PlainVGG(), SiteError, "in place", "pre-pool", "in-place")
    refused(PlainVGG(), SiteError, "in place", "pre-pool", "in-place-activation")


@pytest.mark.usefixtures("registries")
def test_a_block_that_fails_only_inside_the_model() -> None:
    @register_block("picky")
    class Picky(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
            self.limit = 0 if self.weight.is_meta else 9  # real blocks are the ones put in

        def forward(self, x: Tensor) -> Tensor:
            if self.limit and x.shape[1] > self.limit:
                raise RuntimeError("too many channels")
            return x + self.weight

    refused(PlainVGG(), SurgeryError, "too many channels", "pre-pool", "picky")
