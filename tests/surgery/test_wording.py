"""What a plan says: by part and stage, why, what it left out and could not see."""

from __future__ import annotations

import json

import torch
import torchvision
from detectors import Pan
from torch import Tensor, nn
from zoo import PlainVGG, Residual

import attnzoo
from attnzoo.surgery.plan import Plan

SIZE = (3, 64, 64)


def _pan() -> Plan:
    return attnzoo.plan(Pan(), ["stage-end", "neck"], "se", reduction=2, example=SIZE)


def test_sites_are_grouped_by_part_where_there_are_several() -> None:
    lines = str(_pan()).splitlines()
    first = [line.split("  ")[0] for line in lines[2:-1]]
    trunk = ["trunk", "after c1.2", "after c2.2", "after c3.2"]
    assert first == [*trunk, "neck", "after n2", "after n3"]
    plain = str(attnzoo.plan(PlainVGG(), "pre-pool", "se", example=SIZE))
    assert "trunk" not in plain


def test_in_words() -> None:
    said = _pan().describe()
    assert said.startswith("Pan has 5 places for se.")
    where = [said.index(text) for text in ("trunk:", "after c1.2", "stage 3", "neck:", "after n3")]
    assert where == sorted(where)
    assert "after c1.2 (16×32×32): after the last feature map of every resolution level" in said
    chosen = attnzoo.plan(PlainVGG(), "auto", "se", example=SIZE).describe()
    assert "auto comes to pre-pool here" in chosen
    named = attnzoo.plan(PlainVGG(), ("match", {"type": "Conv2d"}), "se", example=SIZE)
    assert "named as asked (match)" in named.describe()


def test_what_it_left_out_and_could_not_see() -> None:
    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.twice = Residual(3), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.twice(self.twice(self.block(x)))
            return x[x > 0].nonzero()

    plan = attnzoo.plan(Stops(), "post-residual", "se", reduction=1, example=SIZE)
    often, stopped = plan.unseen
    assert often.startswith("twice: it is called 2 times")
    assert stopped.startswith("values decide how the forward pass of Stops goes on")
    assert "nonzero" in stopped
    assert f"{__file__}:" in stopped
    assert str(plan).splitlines()[-2:] == [f"not seen: {often}", f"not seen: {stopped}"]
    assert json.loads(plan.to_json())["unseen"] == [often, stopped]


def test_as_data() -> None:
    sites = _pan().to_dict()["sites"]
    assert [(site["part"], site["policy"]) for site in sites] == [
        *[("trunk", "stage-end")] * 3,
        *[("neck", "neck")] * 2,
    ]


def test_the_picture_has_every_place_and_block() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    plan = attnzoo.plan(model, "in-residual", "se")
    picture = plan.draw()
    assert picture.count('<rect class="attention"') == len(plan.sites) + 1  # and the legend
    for site in plan.sites:
        assert f"<title>{site}</title>" in picture
    assert all(
        f"<title>layer{i}.{j} (BasicBlock)</title>" in picture for i in (1, 4) for j in (0, 1)
    )
    assert picture.startswith("<svg ")
    assert f"+{plan.parameters:,} parameters" in picture


def test_the_picture_has_rows_for_parts_and_fits_its_width() -> None:
    picture = _pan().draw()
    assert picture.index(">trunk<") < picture.index(">neck<")
    with torch.device("meta"):
        long = attnzoo.plan(torchvision.models.resnet152(), "auto", "se").draw()
    rights = []
    for rect in long.split("<rect ")[1:]:
        values = dict(pair.split("=") for pair in rect.split("/>")[0].split(">")[0].split())
        rights.append(float(values["x"].strip('"')) + float(values["width"].strip('"')))
    assert max(rights) < 1000
    assert long.count('<rect class="attention"') == 51
