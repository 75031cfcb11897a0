"""The policy `in-block`: the inner branches of blocks that join smaller ones."""

from __future__ import annotations

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


#: Ultralytics' networks → inner places of the first block, how many in all.
YOLO: dict[str, tuple[str, int]] = {
    "yolov5n": ("model.2.m.0.cv2", 11),
    "yolov8n": ("model.2.m.0.cv2", 10),
    "yolov8n-p6": ("model.2.m.0.cv2", 13),
    "yolov9c": ("model.2.cv2.0.m.0.cv2 model.2.cv3.0.m.0.cv2", 16),
    "yolov10n": ("model.2.m.0.cv2", 10),
    "yolo11n": ("model.2.m.0.cv2", 13),
    "yolo12n": ("model.2.m.0.cv2", 26),
    "yolo26n": ("model.2.m.0.cv2", 17),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", YOLO)
def test_places_in_the_blocks_of_yolo(name: str) -> None:
    with others_left_alone():
        from ultralytics.nn.tasks import DetectionModel
    found = _places(probe(DetectionModel(f"{name}.yaml", nc=3, verbose=False), SIZE)).split()
    first, count = YOLO[name]
    assert len(found) == count
    assert found[: len(first.split())] == first.split()
    if name == "yolov8n":
        trunk = ["model.2.m.0", "model.4.m.0", "model.4.m.1", "model.6.m.0", "model.6.m.1"]
        inner = [f"{path}.cv2" for path in (*trunk, "model.8.m.0")]
        assert found == inner + [f"model.{i}.m.0" for i in (12, 15, 18, 21)]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "count"),
    [("cspresnet50", 13), ("cs3darknet_m", 14), ("cspdarknet53", 23), ("cspresnext50", 13)],
)
def test_places_in_the_blocks_of_timms_csp_networks(name: str, count: int) -> None:
    with torch.device("meta"):
        trace = probe(timm.create_model(name), SIZE)
    found = _places(trace).split()
    assert len(found) == count
    assert all(".blocks." in path for path in found)
    for other in ("densenet121", "ghostnet_100", "inception_v3", "shufflenet_v2_x1_0"):
        if other in timm.list_models():
            with torch.device("meta"):
                assert _places(probe(timm.create_model(other), (3, 128, 128))) == ""
