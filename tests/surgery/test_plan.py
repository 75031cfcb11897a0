"""A plan: what it counts and shows, and the model that it was made for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zoo import PlainVGG, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import SiteError, SurgeryError
from attnzoo.surgery.plan import Plan

SIZE = (3, 64, 64)


def _plan(policy: Any = "pre-pool", block: str = "local", **options: Any) -> Plan:
    return attnzoo.plan(PlainVGG(), policy, block, example=SIZE, **options)


def test_a_plan_changes_nothing_and_costs_are_counted() -> None:
    model = PlainVGG()
    untouched, state = snapshot(model), torch.get_rng_state()
    plan = attnzoo.plan(model, "pre-pool", "local", reduction=4, example=SIZE)
    assert plan.parameters == sum(row.parameters for row in plan.rows)
    assert plan.to_json()
    assert str(plan)
    assert snapshot(model) == untouched
    assert torch.equal(torch.get_rng_state(), state)
    before = sum(p.numel() for p in model.parameters())
    plan.apply()
    assert sum(p.numel() for p in model.parameters()) - before == plan.parameters


@pytest.mark.parametrize("start", ["identity", "paper"])
def test_parameters_and_macs_by_the_formula(start: str) -> None:
    rows = _plan(block="se", start=start, reduction=4).rows
    for row, (channels, height) in zip(rows, [(8, 64), (16, 32)], strict=True):
        hidden = max(channels // 4, 8)
        weights = 2 * channels * hidden
        gamma = channels if start == "identity" else 0
        assert row.parameters == weights + hidden + channels + gamma
        assert row.macs == weights
        assert (row.site.channels, row.site.height, row.site.width) == (channels, height, height)
        # the gated map and no other
        assert 1 <= row.activation_bytes / (4 * channels * height * height) < 1.2
    local = _plan(block="local", start="paper", reduction=8).rows[0]
    assert local.macs == 8 * 8 + 8 * 8 + 64 * 64 * (8 * 8 + 8)


def test_vgg16_with_local_attention_has_the_published_figures() -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    plan = attnzoo.plan(model, "pre-pool", "local", start="paper")
    assert sum(p.numel() for p in model.parameters()) + plan.parameters == 138_588_437
    assert plan.recipe.input_size == (3, 224, 224)


def test_a_plan_as_a_table() -> None:
    lines = str(_plan(["pre-pool", ("match", {"pattern": "avgpool"})], "se")).splitlines()
    assert lines[0] == "PlainVGG: pre-pool + match(pattern='avgpool') × se (start=identity)"
    assert lines[1].split()[:5] == ["site", "C", "H×W", "stage", "mechanism"]
    assert lines[2].startswith("before features.2")
    assert lines[2].split()[2:6] == ["8", "64×64", "1", "insert"]
    assert lines[-1].startswith("3 sites")
    assert str(_plan("pre-pool").sites[0]) == "before features.2 (8×64×64)"


def test_a_plan_as_json() -> None:
    plan = _plan(("auto", {"stages": (1, 2)}), "se", reduction=4)
    data = json.loads(plan.to_json())
    assert data == json.loads(json.dumps(plan.to_dict()))
    assert data["model"] == "PlainVGG"
    assert data["asked"] == ["auto"]
    assert data["recipe"]["policy"] == [["pre-pool", {"stages": [1, 2]}]]
    assert data["recipe"]["options"] == {"reduction": 4}
    first = data["sites"][0]
    assert first["path"] == "features.2"
    assert first["attention"] == "features.attn_pre_2"
    assert first["mechanism"] == "insert"
    for total in ("parameters", "macs", "activation_bytes"):
        assert data[total] == sum(site[total] for site in data["sites"]) == getattr(plan, total)
    assert data["skipped"] == []


def test_places_left_out_are_shown() -> None:
    plan = attnzoo.plan(torchvision.models.mobilenet_v2(), "in-residual", example=SIZE)
    assert len(plan.skipped) == 7
    assert "left out: features.1: this block adds no shortcut" in str(plan)
    assert plan.to_dict()["skipped"][0]["path"] == "features.1"


def test_sites_of_several_policies_come_in_forward_order() -> None:
    plan = _plan(
        [("match", {"pattern": "avgpool"}), "pre-pool", ("match", {"pattern": "features.0"})]
    )
    assert [site.path for site in plan.sites] == [
        "features.0",
        "features.2",
        "features.6",
        "avgpool",
    ]
    values = [site.value for site in plan.sites]
    assert values == sorted(values)


def test_a_site_that_no_block_fits() -> None:
    with pytest.raises(SiteError, match="exactly one feature"):
        _plan(("match", {"pattern": "classifier"}))


def test_wrap_is_plan_and_apply() -> None:
    one, other = PlainVGG(), PlainVGG()
    other.load_state_dict(one.state_dict())
    state = torch.get_rng_state()
    attnzoo.wrap(one, "pre-pool", "cbam", start="paper", example=SIZE)
    torch.set_rng_state(state)
    assert attnzoo.plan(other, "pre-pool", "cbam", start="paper", example=SIZE).apply() is other
    assert list(one.state_dict()) == list(other.state_dict())
    assert same_bits(outputs(one), outputs(other))


def test_any_size_after_the_traced_one() -> None:
    model = PlainVGG()
    x = example(3, (3, 40, 88))
    before = outputs(model, x)
    attnzoo.wrap(model, "pre-pool", "local", example=(3, 32, 32))
    assert same_bits(outputs(model, x), before)


def test_stacked_in_one_list() -> None:
    twice = ["pre-pool", ("pre-pool", {"occupied": "stack"})]
    plan = _plan(twice, "se")
    assert len(plan.sites) == 4
    assert len({edit.path for edit in plan.edits}) == 4
    model = plan.apply()
    assert isinstance(attnzoo.unwrap(model), nn.Module)


def test_a_plan_for_a_model_that_was_changed() -> None:
    model = PlainVGG()
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    model.classifier = nn.Sequential(nn.Linear(64, 5))
    untouched = snapshot(model)
    with pytest.raises(SurgeryError, match="changed after this plan"):
        plan.apply()
    assert snapshot(model) == untouched


def test_a_plan_for_a_layer_that_was_exchanged() -> None:
    model = PlainVGG()
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    model.features[0] = nn.Conv2d(3, 8, 5, padding=0)
    untouched = snapshot(model)
    with pytest.raises(SurgeryError):
        plan.apply()
    assert snapshot(model) == untouched


def test_a_plan_is_applied_once() -> None:
    plan = attnzoo.plan(PlainVGG(), "pre-pool", example=SIZE)
    wrapped = snapshot(plan.apply())
    with pytest.raises(SurgeryError, match="new plan"):
        plan.apply()
    assert snapshot(plan.model) == wrapped
