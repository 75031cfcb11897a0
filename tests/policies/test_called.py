"""Parts that a network runs several times: heads of all levels, twins, steps in time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectors import EfficientDet
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Residual, conv, same_bits

import attnzoo
from attnzoo.errors import NoSitesError, SiteError
from attnzoo.policies.auto import choose
from attnzoo.structure import mbconvs
from attnzoo.tracing import probe

SIZE = (3, 64, 64)
PAIR = (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


class Detector(nn.Module):
    """One head for all levels, as RetinaNet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 2, 1), Residual(16)
        self.trunk = nn.ModuleList(nn.Sequential(Residual(16), nn.MaxPool2d(2)) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [self.head(x := stage(x)) for stage in self.trunk]


class Distance(nn.Module):
    """One trunk for both images, small layers on the differences (LPIPS)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 16), conv(16, 32, pool=True)
        self.scores = nn.ModuleList(
            nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1)) for channels in (16, 32)
        )

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (a := self.a(x)), self.b(a)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(self.scores, self.maps(x), self.maps(y), strict=True)
        return sum(score((p - q) ** 2).mean((2, 3)) for score, p, q in pairs)


class Steps(nn.Module):
    """The same layers three times, called by the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return sum(self.d(F.relu(self.c(x))).mean((2, 3)) for _ in range(3))


def test_a_head_of_all_levels_is_left_out_with_the_line_to_type() -> None:
    model = Detector().eval()
    plan = attnzoo.plan(model, "auto", "se", example=SIZE)
    assert [site.path for site in plan.sites] == ["trunk.0.0", "trunk.1.0", "trunk.2.0"]
    ((path, reason),) = [(place.path, place.reason) for place in plan.skipped]
    assert path == "head"
    line = "attnzoo.wrap(model.head, …, example=(16, 16, 16))"
    assert f"wrap the part, `{line}`, or let one block act at all" in reason
    before = model(torch.ones(1, *SIZE))
    attnzoo.wrap(model.head, "auto", "se", example=(16, 16, 16))  # that line
    assert all(map(same_bits, model(torch.ones(1, *SIZE)), before))


def test_only_match_refuses() -> None:
    plan = attnzoo.plan(Detector(), "in-residual", "se", example=SIZE)
    assert [site.path for site in plan.sites] == [f"trunk.{i}.0.bn2" for i in range(3)]
    with pytest.raises(SiteError, match=r"'head.conv1' is called 3 times.*wrap the part"):
        attnzoo.plan(Detector(), ("match", {"type": "Conv2d"}), "se", example=SIZE)


@pytest.mark.parametrize("policy", ["auto", "stage-end", "in-residual"])
def test_a_trunk_for_two_images_is_named_and_score_maps_are_no_place(policy: str) -> None:
    found = r"(?s)at a: it is called 2 times .*attnzoo.wrap\(model.a, …, example=\(3, 32, 32\)\)"
    with pytest.raises(NoSitesError, match=found):
        attnzoo.plan(Distance(), policy, "se", example=PAIR)


def test_layers_that_repeat_have_no_part_to_wrap() -> None:
    with pytest.raises(NoSitesError, match=r"at c: it is called 3 times .* module of its own"):
        attnzoo.plan(Steps(), "auto", "se", example=SIZE)


@pytest.mark.parametrize("side", [64, 8])  # of 8 pixels the coarsest level is one
def test_separable_convolutions_of_a_neck_and_a_head_are_no_mbconv(side: int) -> None:
    trace = probe(EfficientDet(), (3, side, side))
    assert choose(trace) == "mbconv"
    assert [block.call.path for block in mbconvs(trace)] == ["first"] + [
        f"blocks.{i}" for i in range(5)
    ]


def test_a_path_with_numbers_can_be_typed_too() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Conv2d(3, 8, 1), Residual(8)])

        def forward(self, x: Tensor) -> Tensor:
            stem, block = self.parts
            return block(block(stem(x))).mean((2, 3))

    model: Any = Twice()
    with pytest.raises(NoSitesError, match="get_submodule") as error:
        attnzoo.plan(model, "post-residual", "se", example=SIZE)
    assert 'attnzoo.wrap(model.get_submodule("parts.1"), …, example=(8, 64, 64))' in str(
        error.value
    )
