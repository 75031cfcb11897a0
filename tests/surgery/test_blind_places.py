"""Places where attention to channels would see the same for every image, and those nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Residual

import attnzoo
from attnzoo.errors import NoSitesError, SiteError
from attnzoo.structure import behind_instance_norm
from attnzoo.tracing import Site, Trace, probe

SIZE = (3, 32, 32)


class Styled(nn.Module):
    """The residual block of style transfer and of CycleGAN."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm1, self.norm2 = norm(8), norm(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.second(F.relu(self.norm1(self.first(x)))))


def _network(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Styled(norm), Residual(8))


def _affine(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _functional(channels: int) -> nn.Module:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * F.instance_norm(x) + 1

    return Norm()


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, _affine, _functional])
@pytest.mark.parametrize("batch", [1, 2])
def test_channel_attention_behind_an_instance_norm_is_left_out(
    norm: Callable[[int], nn.Module], batch: int
) -> None:
    images = torch.rand(batch, *SIZE)
    plan = attnzoo.plan(_network(norm), "in-residual", "se", example=images)
    assert [site.path for site in plan.sites] == ["2.bn2"]
    ((path, reason),) = [(place.path, place.reason) for place in plan.skipped]
    assert path == "1.norm2"
    assert "the mean of each channel is the same for every image" in reason
    # whoever looks at positions, or at the sum, sees something
    for policy, block in (("in-residual", "spatial"), ("post-residual", "se")):
        assert len(attnzoo.plan(_network(norm), policy, block, example=images).sites) == 2
    named = attnzoo.plan(_network(norm), ("match", {"pattern": "1.norm2"}), "se", example=images)
    assert len(named.sites) == 1


def test_that_it_would_see_nothing() -> None:
    """What the reason says: gates there are the same for images that have nothing in common."""
    images = torch.rand(6, *SIZE) * torch.arange(1, 7).view(6, 1, 1, 1)
    spread = {}
    for norm in (nn.BatchNorm2d, nn.InstanceNorm2d):
        torch.manual_seed(0)
        named = ("match", {"pattern": "1.norm2"})
        model = attnzoo.wrap(_network(norm), named, "se", start="paper", reduction=1, example=SIZE)
        (gates,) = attnzoo.attention_maps(model.eval(), images)
        spread[norm] = gates.tensor.std(0).max().item()
    assert spread[nn.InstanceNorm2d] < 1e-6 < spread[nn.BatchNorm2d]


def test_other_norms_are_no_instance_norm() -> None:
    for norm in (nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c), lambda c: nn.Identity()):
        trace = probe(_network(norm), SIZE)
        assert not any(behind_instance_norm(trace, index) for index in range(len(trace.values)))


@pytest.mark.usefixtures("registries")
def test_where_an_activation_follows_the_place_is_after_it() -> None:
    @attnzoo.register_policy("after-norms")
    def after_norms(trace: Trace) -> list[Site]:
        return [trace.after(call) for call in trace.calls if "Norm" in call.type]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.last = (
                nn.Conv2d(3, 8, 3),
                nn.InstanceNorm2d(8),
                nn.Conv2d(8, 8, 3, 2),
            )
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.act(self.norm(self.conv(x)))).mean((2, 3))

    plan = attnzoo.plan(Network(), "after-norms", "se", example=SIZE)
    assert [(site.where, site.path) for site in plan.sites] == [("after", "act")]


def test_no_place_left_says_what_to_take() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Styled(nn.InstanceNorm2d))
    with pytest.raises(NoSitesError, match=r"would see nothing at any.*post-residual"):
        attnzoo.plan(model, "in-residual", "eca", example=SIZE)


def test_a_map_that_nobody_reads_from_there_on_is_no_place() -> None:
    class Late(nn.Module):
        """All that reads the map has read it when the last module hands it on."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.late = nn.Conv2d(3, 8, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            y = F.max_pool2d(x, 2)
            self.late(x)
            return y

    with pytest.raises(SiteError, match=r"'late' .* is not read: attention there would do nothing"):
        attnzoo.plan(Late(), ("match", {"pattern": "late"}), "se", example=SIZE)


@pytest.mark.parametrize("block", ["local", "cbam", "scse", "bam"])
def test_blocks_of_two_halves_stay_and_the_plan_says_which_is_blind(block: str) -> None:
    plan = attnzoo.plan(_network(nn.InstanceNorm2d), "in-residual", block, example=SIZE)
    assert [site.path for site in plan.sites] == ["1.norm2", "2.bn2"]
    ((path, reason),) = [(place.path, place.reason) for place in plan.half_blind]
    assert path == "1.norm2"
    assert f"half blind: {path}: {reason}" in str(plan)
    assert not attnzoo.plan(_network(nn.BatchNorm2d), "in-residual", block, example=SIZE).half_blind


@pytest.mark.parametrize("block", ["spatial", "simam", "coord", "gc", "conv"])
def test_blocks_that_see_all_the_same_are_not_named(block: str) -> None:
    assert not attnzoo.plan(_network(_affine), "in-residual", block, example=SIZE).half_blind
