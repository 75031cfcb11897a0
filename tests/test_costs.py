"""Parameters, MACs and activation bytes against figures worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import attnzoo
from attnzoo.errors import TraceError


def test_vgg16_has_the_published_figures() -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    plain = attnzoo.cost(model, (3, 224, 224))
    assert plain.parameters == 138_357_544
    assert round(plain.macs / 1e9, 3) == 15.470
    assert plain.sites == ()

    attnzoo.wrap(model, "pre-pool", "local", start="paper")
    cost = attnzoo.cost(model, (3, 224, 224))
    assert cost.parameters == 138_588_437
    assert round(cost.macs / 1e9, 3) == 15.580
    assert sum(site.parameters for site in cost.sites) == cost.parameters - plain.parameters
    assert sum(site.macs for site in cost.sites) == cost.macs - plain.macs


def test_bytes_of_a_small_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten())
    cost = attnzoo.cost(model, (3, 16, 16))
    assert cost.activation_bytes == 8 * 16 * 16 * 4
    assert cost.macs == 8 * 16 * 16 * 3 * 9
    half = attnzoo.cost(model.to(torch.bfloat16), (3, 16, 16))
    assert half.activation_bytes == cost.activation_bytes // 2
    assert attnzoo.cost(model, (4, 3, 16, 16)).macs == 4 * cost.macs


def test_a_site_is_counted_where_it_is() -> None:
    model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se", reduction=8)
    cost = attnzoo.cost(model, (3, 64, 64))
    first = cost.sites[0]
    assert (first.path, first.block) == ("layer1.0.attn", "se")
    assert (first.channels, first.height, first.width) == (64, 16, 16)
    assert first.macs == 2 * 64 * 8
    assert first.parameters == 2 * 64 * 8 + 8 + 64 + 64  # two layers with biases, and γ
    assert len(cost.sites) == 8
    assert cost.to_dict()["sites"][0]["path"] == "layer1.0.attn"


def test_counting_leaves_the_model_as_it_was() -> None:
    model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    attnzoo.cost(model)
    assert all(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_plan_says_what_the_cost_turns_out_to_be() -> None:
    model = torchvision.models.vgg11()
    before = attnzoo.cost(model, (3, 64, 64))
    plan = attnzoo.plan(model, "pre-pool", "local", example=(3, 64, 64))
    after = attnzoo.cost(plan.apply(), (3, 64, 64))
    assert plan.parameters == after.parameters - before.parameters
    assert plan.macs == after.macs - before.macs
    assert plan.activation_bytes == after.activation_bytes - before.activation_bytes


def test_a_detector_is_counted_up_to_where_values_decide() -> None:
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None
    )
    plain = attnzoo.cost(model, [torch.rand(3, 96, 128)])
    attnzoo.wrap(model, "auto", "se", example=[torch.rand(3, 96, 128)])
    cost = attnzoo.cost(model, [torch.rand(3, 96, 128)])
    assert "nonzero" in cost.stopped
    assert cost.to_dict()["stopped"] == cost.stopped
    assert cost.sites
    assert cost.macs == plain.macs + sum(site.macs for site in cost.sites)
    assert plain.macs > 200e6  # the trunk, on the 320 pixels that it makes of any picture


def test_a_network_that_fails_is_no_cost() -> None:
    with pytest.raises(TraceError, match="failed on an example of"):
        attnzoo.cost(nn.Sequential(nn.Conv2d(3, 8, 3)), (4, 16, 16))
