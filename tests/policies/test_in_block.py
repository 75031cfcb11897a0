"""The policy `in-block`: the inner branches of blocks that join smaller ones."""

from __future__ import annotations

import itertools
import re

import pytest
import timm
import torch
from patches import others_left_alone
from torch import Tensor, nn
from zoo import Residual, conv, same_bits

import attnzoo
from attnzoo.errors import NoSitesError
from attnzoo.policies import PolicyCall, select
from attnzoo.structure import composites
from attnzoo.tracing import Trace, probe

SIZE = (3, 64, 64)


def _places(trace: Trace) -> str:
    try:
        sites = select(trace, PolicyCall("in-block")).sites
    except NoSitesError:
        return ""
    return " ".join("<" * (site.where == "before") + site.path for site in sites)


class Split(nn.Module):
    """C2f: all steps are joined with the halves that they began with."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.cv1, self.steps = nn.Conv2d(8, 16, 1), nn.ModuleList(steps)
        self.cv2 = nn.Conv2d(8 * (2 + len(steps)), 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for step in self.steps:
            parts.append(step(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Partial(nn.Module):
    """CSP and C3: a row of blocks beside a narrow way past them."""

    def __init__(self, row: nn.Module) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = (nn.Conv2d(given, 8, 1) for given in (8, 8, 16))
        self.row = row

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat([self.row(self.cv1(x)), self.cv2(x)], 1))


class Bottleneck(nn.Module):
    def __init__(self, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = conv(8, 8), conv(8, 8), shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(8 + 8 * i, 8) for i in range(3))
        self.last = nn.Conv2d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.last(x)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(8, 8), Bottleneck(False), nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.cat([self.one(x), self.two(x), x], 1))


class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.primary = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


#: Block → the places inside.
BLOCKS: list[tuple[nn.Module, str]] = [
    (Split(Bottleneck(), Bottleneck()), "1.steps.0.cv2.2 1.steps.1.cv2.2"),
    (Split(Bottleneck(False), Bottleneck(False)), "1.steps.0 1.steps.1"),
    (Partial(nn.Sequential(Bottleneck(), Bottleneck())), "1.row.0.cv2.2 1.row.1.cv2.2"),
    (Partial(Residual(8)), "1.row.bn2"),
    (Split(Partial(Residual(8))), "1.steps.0.row.bn2"),
    (Dense(), ""),
    (Inception(), ""),
    (Ghost(), ""),
    (Residual(8), ""),
]


@pytest.mark.parametrize(("block", "places"), BLOCKS)
def test_places_in_a_block(block: nn.Module, places: str) -> None:
    assert _places(probe(nn.Sequential(nn.Conv2d(3, 8, 1), block), SIZE)) == places


def test_blocks_of_a_class_that_has_inner_shortcuts_elsewhere() -> None:
    """YOLOv5's neck: the same C3, whose single step adds no shortcut and is no chain."""

    class One(Bottleneck):
        def __init__(self, shortcut: bool) -> None:
            super().__init__(shortcut)
            self.cv1 = nn.Conv2d(8, 8, 1)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Partial(One(True)), Partial(One(False)))
    assert _places(probe(model, SIZE)) == "1.row.cv2.2 2.row"
    alone = nn.Sequential(nn.Conv2d(3, 8, 1), Partial(One(False)))
    assert composites(probe(alone, SIZE)) == ()


def test_it_is_wrapped_and_learns_there() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Split(Bottleneck(), Bottleneck(False)))
    x = torch.rand(2, *SIZE)
    before = model.eval()(x)
    attnzoo.wrap(model, "in-block", "se", example=SIZE)
    assert same_bits(model(x), before)
    assert len(attnzoo.attention_modules(model)) == 2


#: Ultralytics' networks → the places in their blocks, those before a module with `<`.
YOLO: dict[str, str] = {
    "yolov5n": "model.2.m.0.cv2 model.4.m.{0,1}.cv2 model.6.m.{0,1,2}.cv2 model.8.m.0.cv2 "
    "model.{13,17,20,23}.m.0",
    "yolov8n": "model.2.m.0.cv2 model.{4,6}.m.{0,1}.cv2 model.8.m.0.cv2 model.{12,15,18,21}.m.0",
    "yolov8n-p6": "model.2.m.0.cv2 model.{4,6}.m.{0,1}.cv2 model.{8,10}.m.0.cv2 "
    "model.{14,17,20,23,26,29}.m.0",
    "yolov9c": "model.{2,4,6,8,12,15,18,21}.{cv2,cv3}.0.m.0.cv2",
    "yolov10n": "model.2.m.0.cv2 model.{4,6}.m.{0,1}.cv2 model.8.m.0.cv2 model.{13,16,19}.m.0 "
    "model.22.m.0.cv1.4",
    "yolo11n": "model.{2,4}.m.0.cv2 model.{6,8}.m.0.m.{0,1}.cv2 "
    "<model.10.m.0.{attn.proj,ffn.1}.act model.{13,16,19}.m.0.cv2 model.22.m.0.m.{0,1}.cv2",
    "yolo12n": "model.{2,4}.m.0.cv2 <model.{6,8}.m.{0,1}.{0,1}.{attn.proj,mlp.1}.act "
    "model.{11,14,17,20}.m.0.m.{0,1}.cv2",
    "yolo26n": "model.{2,4}.m.0.cv2 model.{6,8}.m.0.m.{0,1}.cv2 "
    "<model.10.m.0.{attn.proj,ffn.1}.act model.{13,16,19}.m.0.m.{0,1}.cv2 model.22.m.0.0.cv2 "
    "<model.22.m.0.1.{attn.proj,ffn.1}.act",
}

#: timm's → the depths of their stages, and what stands behind a block's last convolution.
CSP: dict[str, tuple[tuple[int, ...], str]] = {
    "cspresnet50": ((3, 3, 5, 2), "attn3"),
    "cspresnext50": ((3, 3, 5, 2), "attn3"),
    "cspdarknet53": ((1, 2, 8, 8, 4), "drop_path"),
    "cs3darknet_m": ((2, 4, 6, 2), "drop_path"),
}


def _expanded(text: str) -> str:
    """`a.{0,1}` → `a.0 a.1`."""
    words = []
    for word in text.split():
        parts = [part.split(",") for part in re.split(r"[{}]", word)]
        words += ["".join(chosen) for chosen in itertools.product(*parts)]
    return " ".join(words)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", YOLO)
def test_places_in_the_blocks_of_yolo(name: str) -> None:
    with others_left_alone():
        from ultralytics.nn.tasks import DetectionModel
    model = DetectionModel(f"{name}.yaml", nc=3, verbose=False)
    assert _places(probe(model, SIZE)) == _expanded(YOLO[name])


@pytest.mark.no_cover
@pytest.mark.parametrize("name", CSP)
def test_places_in_the_blocks_of_timms_csp_networks(name: str) -> None:
    depths, last = CSP[name]
    with torch.device("meta"):
        trace = probe(timm.create_model(name), SIZE)
    blocks = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    expected = [f"<stages.{stage}.blocks.{block}.{last}" for stage, block in blocks]
    assert _places(trace) == " ".join(expected)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "name", ["densenet121", "ghostnet_100", "inception_v3", "shufflenet_v2_x1_0"]
)
def test_networks_of_other_blocks_have_none(name: str) -> None:
    if name not in timm.list_models():
        pytest.skip(f"this timm has no {name}")
    with torch.device("meta"):
        trace = probe(timm.create_model(name), (3, 128, 128))
    assert _places(trace) == ""
