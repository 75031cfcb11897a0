"""`attnzoo blocks` and `attnzoo policies`: what there is, and what each is."""

from __future__ import annotations

import json

import pytest
import torch
from commands import row

import attnzoo
from attnzoo.policies.selection import FILTERS
from attnzoo.registry import BLOCKS, POLICIES

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.mark.usefixtures("registries")
def test_blocks_lists_every_block_with_what_it_costs(ok):
    out = ok("blocks")
    for spec in BLOCKS:
        assert row(out, spec.name)[:2] == [spec.name, spec.kind]
    # By hand: local on C=256, r=8, 56×56. Channel gate, then spatial gate.
    parameters = (256 * 32 + 32 + 32 * 256 + 256) + (256 * 32 + 32 + 32 + 1)
    macs = 56**2 * (256 * 32 + 32) + 2 * 256 * 32
    assert row(out, "local")[2:4] == [f"{parameters:,}", f"{macs / 1e6:.2f}"]


def test_blocks_takes_a_pattern(ok):
    names = [entry["name"] for entry in json.loads(ok("blocks", "*a*", "--json"))]
    assert names == attnzoo.list_blocks("*a*")
    assert row(ok("blocks", "*a*"), "cbam")
    assert "\nnone" not in ok("blocks", "*a*")


def test_blocks_of_a_name_explains_it(ok):
    out = ok("blocks", "cbam")
    assert "arXiv   1807.06521" in out
    assert "channel_gate (channel), spatial_gate (spatial)" in out
    assert "    spatial = σ(bn(conv_k×k(" in out
    assert row(out, "kernel_size")[1] == "7"
    assert "Raises" not in out
    assert "attnzoo plan torchvision/resnet18 --block cbam --option reduction=16" in out
    assert "limits" not in out
    assert "limits  shapes: C must be even" in ok("blocks", "shuffle")


def test_blocks_as_json_is_a_list_with_everything(ok):
    listed = json.loads(ok("blocks", "--json"))
    assert [entry["name"] for entry in listed] == attnzoo.list_blocks()
    (cbam,) = json.loads(ok("blocks", "cbam", "--json"))
    assert cbam["options"] == {"reduction": 16, "kernel_size": 7, "floor": 8}
    assert cbam["limits"] == {}
    assert cbam["maps"] == {"channel_gate": "channel", "spatial_gate": "spatial"}
    assert (cbam["arxiv"], cbam["year"], cbam["required"]) == ("1807.06521", 2018, [])


@pytest.mark.usefixtures("registries")
def test_blocks_that_need_an_option_are_listed_without_a_cost(ok):
    class Needy(torch.nn.Identity):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()

    attnzoo.register_block("needy", kind="channel")(Needy)
    assert row(ok("blocks"), "needy")[2:] == ["–", "–"]
    assert row(ok("blocks", "needy"), "width")[1] == "(required)"
    (entry,) = json.loads(ok("blocks", "needy", "--json"))
    assert (entry["required"], entry["parameters"], entry["macs"]) == (["width"], None, None)


@pytest.mark.parametrize(
    ("command", "detail"), [("blocks", "Woo, Park"), ("policies", "trunk_only=False")]
)
def test_a_narrow_terminal_leaves_something_to_the_details(ok, monkeypatch, command, detail):
    assert detail in ok(command)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = ok(command)
    assert detail not in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_a_pipe_is_wide(ok, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert "Woo, Park, Lee, Kweon: CBAM (ECCV 2018)" in ok("blocks")


def test_policies_lists_every_policy_and_the_filters(ok):
    out = ok("policies")
    for name in (*POLICIES.names(), *FILTERS):
        assert row(out, name)[0] == name


def test_policies_of_a_name_explains_it(ok):
    out = ok("policies", "mbconv")
    assert "squeeze-excite" in out
    assert row(out, "position")[1] == "after"
    assert row(out, "min_channels")
    assert "--policy mbconv" in out
    assert "Options" not in ok("policies", "transition")


def test_policies_as_json(ok):
    told = json.loads(ok("policies", "--json"))
    assert [entry["name"] for entry in told["policies"]] == POLICIES.names()
    assert told["filters"] == FILTERS
    (one,) = json.loads(ok("policies", "*res*l", "--json"))["policies"][:1]
    assert one["name"] == "in-residual"
