"""Where each policy finds its places on known networks."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, PlainVGG

import attnzoo
from attnzoo.errors import NoSitesError, OptionError, SiteError
from attnzoo.policies.auto import choose
from attnzoo.policies.selection import PolicyCall, select
from attnzoo.registry import POLICIES
from attnzoo.testing.policy.places import find_twice, is_place
from attnzoo.tracing.probe import probe
from attnzoo.tracing.sites import Site, Skipped
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


def _trace(name: str, size: tuple[int, int, int] = SIZE) -> Trace:
    with torch.device("meta"):
        if name.startswith("timm/"):
            return probe(timm.create_model(name.removeprefix("timm/")), size)
        return probe(torchvision.models.get_model(name), size)


@functools.cache
def _trace_of_the_zoo(name: str) -> Trace:
    with torch.device("meta"):
        return probe(BACKBONES[name](), SIZE) if name != "vgg11" else _trace("vgg11")


def _paths(trace: Trace, policy: str, **options: Any) -> list[str]:
    found = POLICIES[policy].find(trace, **options)
    return [item.path for item in found if isinstance(item, Site)]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("vgg11", "pre-pool"), ("alexnet", "pre-pool"), ("squeezenet1_1", "pre-pool"),
        ("googlenet", "pre-pool"), ("resnet18", "post-residual"),
        ("timm/resnet18", "post-residual"),
        ("densenet121", "transition"), ("timm/densenet121", "transition"),
        ("efficientnet_b0", "mbconv"), ("mobilenet_v2", "mbconv"), ("mnasnet0_5", "mbconv"),
        ("timm/mobilenetv3_small_050", "mbconv"), ("timm/convnext_atto", "post-residual"),
        ("timm/regnetx_002", "post-residual"), ("timm/mambaout_femto", "post-residual"),
        ("timm/mobilenetv1_100", "stage-end"), ("timm/repvgg_a0", "stage-end"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_auto_fits_the_architecture(name: str, policy: str) -> None:
    trace = _trace(name)
    assert choose(trace) == policy
    assert POLICIES["auto"].find(trace) == POLICIES[policy].find(trace)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("policy", [n for n in attnzoo.list_policies() if n != "match"])
def test_policies_are_pure(name: str, policy: str) -> None:
    trace = _trace_of_the_zoo(name)
    found = find_twice(POLICIES[policy], {}, trace)
    for item in found:
        is_place(trace, item)


def test_pre_pool_on_the_trunk_only() -> None:
    trace = _trace("timm/resnet26d")
    everywhere = _paths(trace, "pre-pool")
    assert everywhere[0] == "maxpool"
    assert all("downsample" in path for path in everywhere[1:])
    assert len(everywhere) == 4
    assert _paths(trace, "pre-pool", trunk_only=True) == ["maxpool"]


def test_pre_pool_takes_what_feeds_a_functional_pool() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(self.conv1(x), 2)
            side = F.avg_pool2d(F.relu(x), 2)
            return F.max_pool2d(self.conv2(x), 2) + side

    trace = probe(Pools(), SIZE)
    found = POLICIES["pre-pool"].find(trace)
    assert [(f.path, f.where) for f in found if isinstance(f, Site)] == [
        ("conv1", "after"), ("conv2", "after"),
    ]  # fmt: skip
    assert [f.reason for f in found if isinstance(f, Skipped)] == [
        "it is pooled by a function, and no single module makes its input"
    ]
    assert _paths(trace, "pre-pool", trunk_only=True) == ["conv1"]


def test_in_residual_is_on_the_branch() -> None:
    assert _paths(_trace("resnet18"), "in-residual")[:2] == ["layer1.0.bn2", "layer1.1.bn2"]
    assert _paths(_trace("resnet50"), "in-residual")[0] == "layer1.0.bn3"
    atto = POLICIES["in-residual"].find(_trace("timm/convnext_atto"))
    assert {(site.path.split(".")[-1], site.where) for site in atto} == {("drop_path", "before")}
    mobile = POLICIES["in-residual"].find(_trace("mobilenet_v2"))
    skipped = [item for item in mobile if isinstance(item, Skipped)]
    assert [item.reason for item in skipped] == ["this block adds no shortcut"] * 7


def test_in_residual_goes_back_over_functions() -> None:
    class Scaled(nn.Module):
        def __init__(self, steps: Any) -> None:
            super().__init__()
            self.conv, self.steps = nn.Conv2d(4, 4, 1), steps

        def forward(self, x: Tensor) -> Tensor:
            return x + self.steps(self.conv(F.relu(x)))

    for steps, where in (
        (lambda y: y * 0.2, "1.conv"),
        (lambda y: F.relu(y.clone()) * 2, "1.conv"),
        (lambda y: y * y.sigmoid(), None),
        (lambda y: F.conv2d(y, torch.ones(4, 4, 1, 1, device=y.device)), None),
    ):
        trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(steps)), SIZE)
        assert _paths(trace, "in-residual") == ([where] if where else [])


def test_a_drop_path_shared_by_two_branches_is_no_place() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.drop = nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.drop(self.conv1(F.relu(x)))
            return x + self.drop(self.conv2(F.relu(x)) * 0.5)

    trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), Twice()), SIZE)
    assert _paths(trace, "in-residual") == ["1.conv1", "1.conv2"]


def test_mbconv_in_the_squeeze_excite_slot() -> None:
    sites = POLICIES["mbconv"].find(_trace("efficientnet_b0"), position="se")
    assert [site.where for site in sites] == ["replace"] * 16
    assert sites[0].path == "features.1.0.block.1"
    assert sites[0].channels == 32
    sites = POLICIES["mbconv"].find(_trace("mobilenet_v2"), position="se")
    assert {site.where for site in sites} == {"after"}
    assert [site.channels for site in sites][:3] == [32, 96, 144]  # expanded
    after = POLICIES["mbconv"].find(_trace("mobilenet_v2"))
    assert [site.channels for site in after][:3] == [16, 24, 24]  # projected
    with pytest.raises(OptionError, match="position='slot' is not one of 'after', 'se'"):
        POLICIES["mbconv"].find(_trace("mobilenet_v2"), position="slot")


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("vgg11", ["features.1", "features.4", "features.9", "features.14", "features.19"]),
        ("resnet18", ["relu", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
        ("timm/convnext_atto", [f"stages.{i}.blocks.{n}" for i, n in enumerate([1, 1, 5, 1])]),
        ("densenet121", ["features.relu0", *(f"features.denseblock{i}" for i in range(1, 5))]),
    ],
)
def test_stage_ends(name: str, paths: list[str]) -> None:
    assert _paths(_trace(name, (3, 224, 224)), "stage-end") == paths


def test_stage_ends_of_a_decoder_are_left_out() -> None:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1))
            self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1))
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.up(self.down(x)))

    assert _paths(probe(UNet(), SIZE), "stage-end") == ["down.1", "down.2"]


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0", "regnetx_002"])
def test_stage_ends_agree_with_timm_on_its_features(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, features_only=True)
        trace = probe(timm.create_model(name), (3, 224, 224))
    ends = [item for item in POLICIES["stage-end"].find(trace) if isinstance(item, Site)]
    reductions = dict(
        zip(model.feature_info.reduction(), model.feature_info.channels(), strict=True)
    )
    found = {224 // site.height: site.channels for site in ends}
    later = {r: c for r, c in reductions.items() if r > 2}
    # EfficientNet's last level ends in its head convolution, which timm leaves out
    assert {r: found[r] for r in later if r < 32 or name != "efficientnet_b0"} == {
        r: c for r, c in later.items() if r < 32 or name != "efficientnet_b0"
    }


def test_match() -> None:
    trace = probe(PlainVGG(), SIZE)
    assert _paths(trace, "match", pattern="features.[03]") == ["features.0", "features.3"]
    assert _paths(trace, "match", type="Conv2d") == ["features.0", "features.3"]
    assert _paths(trace, "match", pattern="*3", type="Conv2d") == ["features.3"]
    assert _paths(trace, "match", pattern="*3", type="ReLU") == []
    for where in ("before", "after", "replace"):
        (site,) = POLICIES["match"].find(trace, pattern="features.4", where=where)
        assert site.where == where
    with pytest.raises(SiteError, match="'classifier'"):
        POLICIES["match"].find(trace, pattern="classifier")
    with pytest.raises(OptionError, match="pattern="):
        POLICIES["match"].find(trace)


def test_every_policy_says_what_it_looks_for() -> None:
    trace = probe(nn.ReLU(), SIZE)
    for spec in POLICIES:
        assert spec.summary.endswith(".")
        assert spec.source
        if spec.name != "match":
            name = spec.delegate(trace) if spec.delegate else spec.name
            with pytest.raises(NoSitesError, match=f"It has no {POLICIES[name].looks_for}"):
                attnzoo.plan(nn.ReLU(), spec.name, example=SIZE)


def test_a_pool_whose_result_nobody_reads_is_left_out() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.idle = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            self.idle(x)
            return self.pool(x)

    selection = select(probe(Idle(), SIZE), PolicyCall("pre-pool"))
    assert [site.path for site in selection.sites] == ["pool"]
    assert str(selection.skipped[0]).startswith("idle: nothing that the model returns")


class WithState(nn.Module):
    """A residual block that returns its map and something beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + F.relu(self.conv(x))
        return y, y.mean((2, 3))


class ReturnsTuples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.block = WithState()
        self.head = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, mean = self.block(self.stem(x))
        return self.head(y) * mean[:, :, None, None]


def test_auto_takes_the_branch_of_residual_blocks_that_return_no_map() -> None:
    trace = probe(ReturnsTuples(), SIZE)
    assert _paths(trace, "post-residual") == []
    assert choose(trace) == "in-residual"
    assert [site.path for site in attnzoo.plan(ReturnsTuples(), example=SIZE).sites] == [
        "block.conv"
    ]


def test_the_image_itself_is_no_place() -> None:
    class Pyramid(nn.Module):
        """The image is pooled for a branch of its own (LEDNet, ESPNet)."""

        def __init__(self) -> None:
            super().__init__()
            self.small, self.conv = nn.AvgPool2d(2), nn.Conv2d(3, 8, 3, 2, 1)
            self.pool, self.last = nn.MaxPool2d(2), nn.Conv2d(11, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.pool(torch.cat([self.conv(x), self.small(x)], 1)))

    plan = attnzoo.plan(Pyramid(), "pre-pool", "se", example=(3, 32, 32))
    assert [site.path for site in plan.sites] == ["pool"]
    assert ["is the image" in place.reason for place in plan.skipped] == [True]
