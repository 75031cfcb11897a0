"""What surgery keeps: modes, gradient flags, dtypes, memory formats, devices, statistics."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zoo import BACKBONES, SIZE, PlainVGG, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.hosts.attention import Attention


def _flags(model: nn.Module) -> list[Any]:
    return [
        [(name, module.training) for name, module in model.named_modules()],
        [(name, p.requires_grad, p.dtype, p.device) for name, p in model.named_parameters()],
    ]


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_gradient_flags_stay(training: bool) -> None:
    model = BACKBONES["resnet18"]().train(training)
    model.layer1.train(not training)
    model.layer2[0].bn1.train(not training)
    model.layer3.requires_grad_(False)
    flags = _flags(model)
    attnzoo.wrap(model, ["in-residual", "pre-pool", "post-residual"], example=SIZE)
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            around = "layer1" in path
            expected = training != around
            assert all(inner.training == expected for inner in module.modules()), path
    assert all(
        p.requires_grad for m in attnzoo.attention_modules(model).values() for p in m.parameters()
    )
    assert _flags(attnzoo.unwrap(model)) == flags


def test_wrap_keeps_the_mode_of_every_old_module() -> None:
    model = PlainVGG().train()
    model.features[4].eval()
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert model.training
    assert model.features.training
    modes = {name: m.training for name, m in model.named_modules()}
    assert not modes["features.4"]
    assert modes["features.attn_pre_2.block"]


@pytest.mark.no_cover
@pytest.mark.parametrize("policy", ["pre-pool", "in-residual", "post-residual"])
def test_bfloat16_and_float64(policy: str) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        model = BACKBONES["resnet18"]().to(dtype)
        x = example().to(dtype)
        before = outputs(model, x)
        attnzoo.wrap(model, policy, example=SIZE)
        assert {p.dtype for p in model.parameters()} == {dtype}
        after = outputs(model, x)
        assert same_bits(after, before)
        assert same_bits(outputs(attnzoo.unwrap(model), x), before)


@pytest.mark.parametrize("name", ["resnet18", "plain", "timm/convnext_atto"])
def test_channels_last(name: str) -> None:
    model = BACKBONES[name]().to(memory_format=torch.channels_last)
    x = example().to(memory_format=torch.channels_last)
    strides = {key: value.stride() for key, value in model.state_dict().items()}
    before = outputs(model, x)
    attnzoo.wrap(model, "auto", "local", example=x)
    assert same_bits(outputs(model, x), before)
    for block in attnzoo.attention_modules(model).values():
        weight = block.spatial_attention[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
    attnzoo.unwrap(model)
    assert {key: value.stride() for key, value in model.state_dict().items()} == strides
    assert same_bits(outputs(model, x), before)


def test_a_model_on_meta() -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    untouched = snapshot(model)
    plan = attnzoo.plan(model, "pre-pool", "local")
    assert [site.channels for site in plan.sites] == [64, 128, 256, 512, 512]
    plan.apply()
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 1000)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_batch_norm_statistics_and_random_state_stay() -> None:
    model = BACKBONES["resnet18"]().train()
    statistics = {k: v.clone() for k, v in model.named_buffers()}
    state = torch.get_rng_state()
    attnzoo.wrap(model, "auto", "cbam", example=SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in statistics.items():
        assert torch.equal(model.get_buffer(name), value)


def test_a_large_network_on_meta_takes_no_memory() -> None:
    script = """
        import resource, sys, timm, torch, torchvision, attnzoo

        def peak():  # bytes
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most * (1 if sys.platform == "darwin" else 1024)

        attnzoo.wrap(torchvision.models.squeezenet1_1())  # what first calls load
        with torch.device("meta"):
            model = timm.create_model("regnety_2560")
        assert sum(p.numel() for p in model.parameters()) > 1e9
        before = peak()
        attnzoo.plan(model, "post-residual", "local")
        attnzoo.wrap(model, "post-residual", "local")
        assert all(p.is_meta for p in model.parameters())
        print(peak() - before)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200e6
