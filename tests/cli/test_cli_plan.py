"""`attnzoo plan` and `attnzoo cost`, on networks of libraries and of one's own."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
import torchvision
from commands import VGG, row

import attnzoo
from attnzoo.cli import network

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.fixture(scope="module")
def vgg11() -> torch.nn.Module:
    """The network by itself, to compare with what the commands say of it."""
    with torch.device("meta"):
        return torchvision.models.vgg11()


def test_plan_is_the_plan(ok, vgg11):
    out = ok("plan", VGG, "--policy", "pre-pool", "--block", "local")
    plan = attnzoo.plan(vgg11, "pre-pool", "local")
    assert out.startswith(f"{VGG}: {plan.recipe}")
    for site in plan.rows:
        cells = row(out, str(site.site).partition(" (")[0])
        assert cells[2:6] == [
            str(site.site.channels),
            f"{site.site.height}×{site.site.width}",
            str(site.site.stage),
            site.mechanism,
        ]
        assert cells[6] == f"{site.parameters:,}"
    assert row(out, "5 sites")[2] == f"{plan.parameters:,}"


def test_plan_as_json_is_the_plan(ok, vgg11):
    told = json.loads(ok("plan", VGG, "--policy", "pre-pool", "--option", "reduction=4", "--json"))
    plan = attnzoo.plan(vgg11, "pre-pool", "local", reduction=4)
    assert told == {"backbone": VGG, **json.loads(plan.to_json())}


def test_plan_takes_every_flag(ok):
    told = json.loads(
        ok(
            *("plan", "timm/resnet18", "--policy", "in-residual", "--policy", "stage-end"),
            *("--policy-option", "stages=3,4", "--block", "se", "--start", "paper"),
            *("--option", "reduction=8", "--input-size", "1", "64", "96"),
            *("--backbone-option", "in_chans=1", "--json"),
        )
    )
    assert told["recipe"] == {
        "format": 2,
        "policy": [["in-residual", {"stages": [3, 4]}], ["stage-end", {"stages": [3, 4]}]],
        "block": "se",
        "options": {"reduction": 8},
        "start": "paper",
        "input_size": [1, 64, 96],
    }
    assert {(site["height"], site["width"]) for site in told["sites"]} == {(8, 12), (4, 6)}


def test_plan_says_what_was_left_out(ok):
    out = ok("plan", "torchvision/efficientnet_b0", "--policy", "in-residual", "--block", "none")
    assert "left out: features.1.0: this block adds no shortcut" in out


def test_one_site_is_no_plural(ok):
    out = ok("plan", VGG, "--policy", "pre-pool", "--policy-option", "stages=1", "--block", "none")
    assert "1 site " in out


MODULE = """
import torch
from torch import nn

print("imported")

def tiny(width: int = 8):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.MaxPool2d(2))

class Chooses(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = tiny(), nn.Linear(1, 2)

    def forward(self, x):
        return self.last(self.first(x).flatten().nonzero().float())

def chooses():
    return Chooses()

def computes(width: int = 8):
    model = tiny(width)
    assert model[0].weight.abs().sum().item() > 0, "needs its weights"
    return model

def broken():
    raise RuntimeError("this network cannot be built")
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "networks_of_cli_tests.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "networks_of_cli_tests"
    sys.modules.pop("networks_of_cli_tests", None)


@pytest.mark.parametrize("function", ["tiny", "computes"])
def test_a_network_of_ones_own_is_found_in_this_folder(run, own_networks, function):
    code, out, err = run(
        "plan", f"{own_networks}:{function}", "--backbone-option", "width=16", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["sites"][0]["channels"] == 16  # so what the module prints is elsewhere
    assert "imported" in err


def test_an_error_in_the_network_itself_is_told_in_a_line(run, own_networks):
    code, _, err = run("plan", f"{own_networks}:broken")
    assert code == 1
    assert re.search(r"error: \S+:broken raises RuntimeError: .*cannot be built", err)
    assert "--debug" in err


def test_networks_are_built_without_memory_where_they_can_be():
    assert {p.device.type for p in network.build("timm/resnet18", {}).parameters()} == {"meta"}


def test_cost_is_that_of_the_published_network(ok):
    told = json.loads(
        ok("cost", "torchvision/vgg16", "--policy", "pre-pool", "--start", "paper", "--json")
    )
    assert told["before"]["parameters"] == 138_357_544
    assert told["after"]["parameters"] == 138_588_437
    assert round(told["before"]["macs"] / 1e9, 3) == 15.470
    assert round(told["after"]["macs"] / 1e9, 3) == 15.580
    for name, added in told["added"].items():
        assert added == told["after"][name] - told["before"][name]
    assert sum(site["parameters"] for site in told["sites"]) == told["added"]["parameters"]


def test_cost_shows_before_after_and_every_site(ok, vgg11):
    out = ok("cost", VGG, "--policy", "pre-pool", "--block", "affine", "--input-size", "64")
    added = 2 * (64 + 128 + 256 + 512 + 512)
    before = sum(p.numel() for p in vgg11.parameters())
    assert "one image, 3×64×64" in out
    assert row(out, "parameters")[1:] == [
        f"{before:,}",
        f"{before + added:,}",
        f"+{added:,}",
        f"{100 * added / before:+.2f}%",
    ]
    assert row(out, "MACs")[3:] == ["+0", "+0.00%"]
    assert row(out, "features.attn_pre_2")[1:4] == ["affine", "64", "64×64"]


def test_plan_groups_by_part_and_says_why_and_draws(ok, tmp_path):
    network = ("plan", "torchvision/retinanet_resnet50_fpn", "--policy", "stage-end")
    picture = tmp_path / "places.svg"
    out = ok(*network, "--policy", "neck", "--block", "none", "--svg", str(picture))
    assert out.index("\ntrunk") < out.index("\nneck")
    assert "stage-end: after the last feature map of every resolution level" in out
    assert "not seen: head.classification_head.conv: it is called 5 times" in out.replace("\n", " ")
    assert "neck" in picture.read_text("utf-8")


def test_images_that_a_network_does_not_take_are_told_by_the_flag(run):
    code, out, err = run("plan", VGG, "--input-size", "1x64x64")
    assert (code, out) == (1, "")
    assert "Say what an image is: --input-size 3x64x64." in err
    assert "Pass example=" not in err


@pytest.mark.parametrize("command", ["plan", "cost"])
def test_a_network_that_cannot_be_followed_is_refused_where_asked(run, own_networks, command):
    network = (command, f"{own_networks}:chooses", "--policy", "pre-pool", "--input-size", "32")
    assert command == "cost" or run(*network)[0] == 0
    code, out, err = run(*network, "--strict")
    assert (code, out) == (1, "")
    assert "strict=True: values decide" in err
    assert "Say what an image is" not in err
