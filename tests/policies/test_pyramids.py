"""The policies `neck` and `decoder`: the places that an expert would name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from decoders import DECODERS, Blocks, DeepLab
from detectors import DilatedFPN, EfficientDet, Pan, StackedBiFPN
from patches import others_left_alone
from real_time import PLACES as REAL_TIME
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from zoo import conv, same_bits

import attnzoo
from attnzoo.errors import NoSitesError, OptionError
from attnzoo.policies import PolicyCall, select
from attnzoo.tracing import Trace, probe

SIZE = (3, 64, 64)


def _places(trace: Trace, policy: str, **options: Any) -> str:
    """Paths of the places, those before a module with `<`; nothing where there are none."""
    try:
        sites = select(trace, PolicyCall(policy, options)).sites
    except NoSitesError:
        return ""
    return " ".join("<" * (site.where == "before") + site.path for site in sites)


def _opened(model: nn.Module, policy: str, path: str) -> nn.Module:
    """A copy of the model with a block at one place, that acts from the start."""
    one = (policy, {"include": path})
    torch.manual_seed(0)
    copied = copy.deepcopy(model)
    return attnzoo.wrap(copied, one, "se", start="paper", reduction=2, example=SIZE).eval()


# --- decoders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", DECODERS)
def test_places_of_a_decoder(build: Callable[[], nn.Module]) -> None:
    blocks, skips = DECODERS[build]
    trace = probe(build(), SIZE)
    assert _places(trace, "decoder") == blocks
    assert _places(trace, "decoder", on="skip") == skips


@pytest.mark.parametrize("build", [*DECODERS, Pan, EfficientDet])
def test_the_encoder_of_a_network_ends_before_its_decoder_and_neck(
    build: Callable[[], nn.Module],
) -> None:
    """Neither stage-end nor the new policies take a place twice, for another part."""
    trace = probe(build(), SIZE)
    ends = {site.value for site in select(trace, PolicyCall("stage-end")).sites}
    for policy in ("decoder", "neck"):
        try:
            found = {site.value for site in select(trace, PolicyCall(policy)).sites}
        except NoSitesError:
            continue
        assert not ends & found


@pytest.mark.parametrize("build", [Blocks, DeepLab])
def test_a_place_of_a_decoder_changes_what_comes_after_it(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = build().eval(), torch.rand(2, *SIZE)
    before = model(x)
    for site in attnzoo.plan(model, "decoder", "se", example=SIZE).sites:
        assert not same_bits(_opened(model, "decoder", site.path)(x), before)
    attnzoo.wrap(model, "decoder", "se", reduction=2, example=SIZE)
    assert same_bits(model(x), before)


def test_networks_without_a_decoder() -> None:
    upscaling = nn.Sequential(conv(3, 8), nn.Upsample(scale_factor=2), conv(8, 8), conv(8, 3))
    for model in (upscaling, nn.Sequential(conv(3, 8, pool=True), conv(8, 8)), Pan()):
        assert _places(probe(model, SIZE), "decoder") == ""


# --- necks ---------------------------------------------------------------------------------------


def _fpn() -> nn.Module:
    trunk = torchvision.models.resnet18()
    taken = {f"layer{i}": str(i) for i in (2, 3, 4)}
    model = BackboneWithFPN(trunk, taken, [128, 256, 512], 32)
    assert isinstance(model.body, IntermediateLayerGetter)
    return model


FPN = "backbone.fpn.layer_blocks"
#: torchvision's detectors → places before the head, and after each fusion.
TORCHVISION: dict[str, tuple[str, str]] = {
    "fasterrcnn_resnet50_fpn": (
        f"{FPN}.3 {FPN}.2 {FPN}.1 {FPN}.0",
        f"{FPN}.2 {FPN}.1 {FPN}.0",
    ),
    "maskrcnn_resnet50_fpn_v2": (
        f"{FPN}.3 {FPN}.2 {FPN}.1 {FPN}.0",
        f"{FPN}.2 {FPN}.1 {FPN}.0",
    ),
    "retinanet_resnet50_fpn": (
        f"{FPN}.2 {FPN}.1 {FPN}.0 backbone.fpn.extra_blocks.p6 backbone.fpn.extra_blocks.p7",
        f"{FPN}.1 {FPN}.0",
    ),
    "fcos_resnet50_fpn": (
        f"{FPN}.2 {FPN}.1 {FPN}.0 backbone.fpn.extra_blocks.p6 backbone.fpn.extra_blocks.p7",
        f"{FPN}.1 {FPN}.0",
    ),
}

#: Ultralytics' networks → what the head is given, and what is fused besides.
ULTRALYTICS: dict[str, tuple[str, str]] = {
    "yolov3": ("15 22 27", "21 27"),
    "yolov5n": ("17 20 23", "14 17 20 23"),
    "yolov6n": ("19 23 27", "15 19 23 27"),
    "yolov8n": ("15 18 21", "12 15 18 21"),
    "yolov8n-p2": ("18 21 24 27", "12 15 18 21 24 27"),
    "yolov9t": ("15 18 21", "12 15 18 21"),
    "yolov10n": ("16 19 22", "13 16 19 22"),
    "yolo11n": ("16 19 22", "13 16 19 22"),
    "yolo12n": ("14 17 20", "11 14 17 20"),
    "yolo26n": ("16 19 22", "13 16 19 22"),
    "rtdetr-resnet50": ("16 19 22", "12 16 19 22"),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", TORCHVISION)
def test_the_neck_of_torchvisions_detectors(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    trace = probe(model)
    assert _places(trace, "neck") == TORCHVISION[name][0]
    assert _places(trace, "neck", at="fusion") == TORCHVISION[name][1]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ULTRALYTICS)
def test_the_neck_of_yolo(name: str) -> None:
    with others_left_alone():
        from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
    kind = RTDETRDetectionModel if name.startswith("rtdetr") else DetectionModel
    trace = probe(kind(f"{name}.yaml", nc=3, verbose=False).eval(), (3, 128, 128))
    given, fused = (" ".join(f"model.{i}" for i in text.split()) for text in ULTRALYTICS[name])
    assert _places(trace, "neck") == given
    assert _places(trace, "neck", at="fusion") == fused


@pytest.mark.parametrize(
    ("build", "given", "fused"),
    [
        (Pan, "n2 n3", "n2 n3"),
        (EfficientDet, "td td2 out", "td td2 out"),
        (StackedBiFPN, "td2 out out2", "td td2 out out2"),
        (DilatedFPN, "out.0 out.1 out.2", "out.0"),
        (
            _fpn,
            "fpn.layer_blocks.2 fpn.layer_blocks.1 fpn.layer_blocks.0",
            "fpn.layer_blocks.1 fpn.layer_blocks.0",
        ),
    ],
)
def test_the_neck_of_other_networks(build: Callable[[], nn.Module], given: str, fused: str) -> None:
    trace = probe(build(), SIZE)
    assert _places(trace, "neck") == given
    assert _places(trace, "neck", at="fusion") == fused


def test_levels_by_stride() -> None:
    trace = probe(_fpn(), SIZE)
    assert _places(trace, "neck", levels=8) == "fpn.layer_blocks.0"
    both = "fpn.layer_blocks.2 fpn.layer_blocks.1"
    assert _places(trace, "neck", levels=[32, 16]) == both
    with pytest.raises(OptionError, match=r"no level of stride 64 there. It has 8, 16, 32"):
        _places(trace, "neck", levels=[8, 64])
    with pytest.raises(OptionError, match="levels=0 must be an integer"):
        _places(trace, "neck", levels=0)
    with pytest.raises(OptionError, match="at='tail' is not one of"):
        _places(trace, "neck", at="tail")


def test_an_opened_level_changes_what_the_head_is_given_of_it_alone() -> None:
    model, x = _fpn().eval(), torch.rand(1, *SIZE)
    before = model(x)
    for number, path in enumerate(f"fpn.layer_blocks.{i}" for i in range(3)):
        after = _opened(model, "neck", path)(x)
        changed = [key for key in before if not same_bits(after[key], before[key])]
        # the coarsest is pooled once more for the head
        assert changed == [str(number + 2)] + ["pool"] * (number == 2)


@pytest.mark.no_cover
def test_an_opened_level_of_a_path_aggregation_changes_it_and_the_coarser_ones() -> None:
    with others_left_alone():
        from ultralytics.nn.tasks import DetectionModel
    torch.manual_seed(0)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False).eval()
    x = torch.rand(1, *SIZE)

    def given(model: nn.Module) -> list[Tensor]:
        taken: list[Tensor] = []
        handle = model.model[-1].register_forward_pre_hook(
            lambda module, args: taken.extend(one.clone() for one in args[0])
        )
        model(x)
        handle.remove()
        return taken

    before = given(model)
    for path, expected in {"15": [0, 1, 2], "18": [1, 2], "21": [2]}.items():
        after = given(_opened(model, "neck", f"model.{path}"))
        assert [i for i in range(3) if not same_bits(after[i], before[i])] == expected


def test_why_a_level_has_no_place() -> None:
    plan = attnzoo.plan(_fpn(), "neck", "se", example=SIZE)
    assert [site.path for site in plan.sites] == [f"fpn.layer_blocks.{i}" for i in (2, 1, 0)]
    assert plan.skipped == ()  # a map of one pixel is no level
    plan = attnzoo.plan(_fpn(), "neck", "se", example=(3, 128, 128))
    assert ["no module makes the map at 2×2" in place.reason for place in plan.skipped] == [True]


# --- all parts of a network ----------------------------------------------------------------------


@pytest.mark.parametrize("build", REAL_TIME)
def test_every_part_of_a_network_that_segments_or_detects(build: type[nn.Module]) -> None:
    trace = probe(build(), SIZE)
    ends, blocks, skips, heads = REAL_TIME[build]
    assert _places(trace, "stage-end") == ends
    assert _places(trace, "decoder") == blocks
    assert _places(trace, "decoder", on="skip") == skips
    assert _places(trace, "neck") == heads
