"""Where resolution levels end in networks that are no straight line of blocks."""

from __future__ import annotations

import pytest
import timm
import torch
from detectors import Pan, strided
from patches import others_left_alone
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv

import attnzoo
from attnzoo.policies import PolicyCall, select
from attnzoo.policies.auto import choose
from attnzoo.tracing import Trace, probe

SIZE = (3, 64, 64)


class Excited(nn.Module):
    """A depthwise block with squeeze-excite before its projection: EfficientNet's first block."""

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.se = nn.Conv2d(16, 16, 3, padding=1, groups=16), self.Gate(16)
        self.project = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.se(F.relu(self.deep(x))))


class Efficient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = strided(3, 16), Excited()
        self.second, self.gate = strided(8, 16), Excited.Gate(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.second(self.first(self.stem(x)))).mean((2, 3))


class Empty(nn.Module):
    """Empty sequences, where an option was not taken: the picture is no level."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.first = nn.Sequential(), conv(3, 8)
        self.down, self.second = strided(8, 16), nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.down(self.first(self.before(x)))).mean((2, 3))


class Dual(nn.Module):
    """A block that hands two maps on, one to add to and one to join: DPN."""

    def __init__(self, given: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.ReLU(), nn.Conv2d(given, 32, 1, stride)) if first else None
        self.a, self.b = conv(given, 16), nn.Conv2d(16, 16, 3, stride, 1)
        self.c = nn.Conv2d(16, 24, 1)

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        joined = torch.cat(x, 1) if isinstance(x, tuple) else x
        if self.shortcut is not None:
            x = self.shortcut(joined).split(16, 1)
        y = self.c(self.b(self.a(joined)))
        return x[0] + y[:, :16], torch.cat([x[1], y[:, 16:]], 1)


class DualPath(nn.Module):
    class Joined(nn.Module):
        def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
            return F.relu(torch.cat(x, 1))

    def __init__(self) -> None:
        super().__init__()
        first, second = Dual(16, 1, True), Dual(56, 2, True)
        self.features = nn.Sequential(
            strided(3, 16), first, Dual(40), Dual(48), second, Dual(40), self.Joined()
        )
        self.last = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x).mean((2, 3)))


class Factors(nn.Module):
    """Residual blocks that return their gates as well: MLFN."""

    class Block(nn.Module):
        def __init__(self, given: int, made: int, stride: int = 1) -> None:
            super().__init__()
            self.a, self.b = conv(given, made), nn.Conv2d(made, made, 3, stride, 1)
            self.gate = nn.Linear(given, 4)
            self.down = nn.Conv2d(given, made, 1, stride)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return F.relu(self.b(self.a(x)) + self.down(x)), self.gate(x.mean((2, 3)))

    def __init__(self) -> None:
        super().__init__()
        self.stem = strided(3, 16)
        sizes = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1))
        self.feature = nn.ModuleList(self.Block(*size) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        x, found = self.stem(x), []
        for block in self.feature:
            x, gates = block(x)
            found.append(gates)
        return torch.cat([x.mean((2, 3)), *found], 1)


class FlatInception(nn.Module):
    """All branches of all Inception blocks called by the network itself: BNInception."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool1 = strided(3, 16), nn.MaxPool2d(3, 2, 1)
        self.conv2, self.pool2 = conv(16, 24), nn.MaxPool2d(3, 2, 1)
        for name, given in (("a", 24), ("b", 24), ("c", 48), ("d", 24)):
            branches = {"one": conv(given, 8), "two": conv(given, 8), "pool": conv(given, 8)}
            for branch, layer in branches.items():
                setattr(self, f"{name}_{branch}", layer)
        self.mean, self.narrow, self.down = (
            nn.AvgPool2d(3, 1, 1),
            conv(24, 16),
            strided(16, 24),
        )
        self.pool3, self.narrow2 = nn.MaxPool2d(3, 2, 1), conv(24, 24)
        self.all = nn.AvgPool2d(4)

    def inception(self, x: Tensor, name: str) -> Tensor:
        one, two, pool = (getattr(self, f"{name}_{branch}") for branch in ("one", "two", "pool"))
        return torch.cat([one(x), two(x), pool(self.mean(x))], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool2(self.conv2(self.pool1(self.conv1(x))))
        x = self.inception(self.inception(x, "a"), "b")
        x = torch.cat([self.down(self.narrow(x)), self.pool3(x)], 1)
        return self.all(self.inception(x, "c")).flatten(1)


#: Network → its places by stage-end, and what `auto` chooses.
ENDS: list[tuple[type[nn.Module], str, list[str]]] = [
    (Efficient, "stage-end", ["after first.project", "after gate"]),
    (Empty, "stage-end", ["after first.2", "after second"]),
    (DualPath, "in-residual", ["after features.3.c", "after features.5.c"]),
    (Factors, "in-residual", ["after feature.1.b", "after feature.3.b"]),
    (FlatInception, "pre-pool", ["after conv1.2", "after conv2.2", "before all"]),
    (Pan, "stage-end", ["after c1.2", "after c2.2", "after c3.2"]),
]


class SpreadByGroups(nn.Module):
    """Divides by a deviation of each group of channels, spread over the map again: EvoNorm-S0."""

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), 2, -1, *x.shape[2:])
        deviation = groups.var((2, 3, 4), keepdim=True).add(1e-5).sqrt()
        return x * x.sigmoid() / deviation.expand(groups.shape).reshape(x.shape)


def test_statistics_spread_over_a_map_are_no_patches_of_it() -> None:
    layers = [(strided(a, b), SpreadByGroups()) for a, b in ((3, 8), (8, 16), (16, 32))]
    model = nn.Sequential(*(layer for pair in layers for layer in pair))
    assert _ends(probe(model, SIZE)) == ["after 1", "after 3", "after 5"]


class OwnSize(nn.Module):
    """Brings every picture to a size of its own, and levels beside each other: CrossViT."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(strided(3, 8), strided(8, 16), strided(16, 32))
        self.two = nn.Sequential(strided(3, 8), strided(8, 16), strided(16, 32))

    def forward(self, x: Tensor) -> Tensor:
        one, two = (F.interpolate(x * 2 - 1, (size, size)) for size in (64, 56))
        return self.one(one).mean((2, 3)) + self.two(two).mean((2, 3))


@pytest.mark.parametrize("side", [16, 48, 64, 128])
def test_levels_do_not_depend_on_a_size_that_is_not_kept(side: int) -> None:
    ends = _ends(probe(OwnSize(), (3, side, side)))
    assert ends == _ends(probe(OwnSize(), (3, 65, 65)))
    assert ends[-1] == "after two.2.2"


def _ends(trace: Trace) -> list[str]:
    return [f"{site.where} {site.path}" for site in select(trace, PolicyCall("stage-end")).sites]


@pytest.mark.parametrize(("network", "policy", "places"), ENDS)
def test_a_level_ends_after_its_last_block(
    network: type[nn.Module], policy: str, places: list[str]
) -> None:
    trace = probe(network(), SIZE)
    assert _ends(trace) == places
    assert choose(trace) == policy


def test_why_a_level_of_branches_has_no_place() -> None:
    skipped = attnzoo.plan(FlatInception(), "stage-end", "se", example=SIZE).skipped
    assert [place.path for place in skipped] == [""]
    assert "a function joins branches there, at 8×8" in skipped[0].reason


@pytest.mark.parametrize(
    ("name", "first"),
    [("efficientnet_b0", "blocks.0.0.bn2.act"), ("lcnet_035", "blocks.0.0.bn2.act")],
)
def test_the_first_block_of_an_efficient_network(name: str, first: str) -> None:
    with torch.device("meta"):
        trace = probe(timm.create_model(name), SIZE)
    assert _ends(trace)[0] == f"after {first}"
    assert not any(".se" in end for end in _ends(trace))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("yolov5n", "model.9"),
        ("yolov8n", "model.9"),
        ("yolov9t", "model.9"),
        ("yolov10n", "model.10"),
        ("yolo11n", "model.10"),
        ("yolo12n", "model.8"),
        ("yolo26n", "model.10"),
    ],
)
def test_the_coarsest_level_of_a_detector_ends_before_its_neck(name: str, last: str) -> None:
    with others_left_alone():
        from ultralytics.nn.tasks import DetectionModel
    ends = _ends(probe(DetectionModel(f"{name}.yaml", nc=3, verbose=False), SIZE))
    assert len(ends) == 5
    assert ends[-1] == f"after {last}"
