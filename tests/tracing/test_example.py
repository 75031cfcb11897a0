"""Examples of every form, and the size that a model is made for."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import SIZE, PlainVGG, example, outputs, same_bits

import attnzoo
from attnzoo.errors import OptionError, TraceError
from attnzoo.tracing.example import default_input_size, resolve_example
from attnzoo.tracing.probe import probe


def test_examples_of_every_form() -> None:
    model = PlainVGG()
    x = torch.rand(2, 3, 16, 24)
    for given, shape in (
        ((3, 16, 24), (1, 3, 16, 24)),
        ([3, 16, 24], (1, 3, 16, 24)),
        (torch.Size((3, 16, 24)), (1, 3, 16, 24)),
        ((2, 3, 16, 24), (2, 3, 16, 24)),
        (x, (2, 3, 16, 24)),
        ((x,), (2, 3, 16, 24)),
        ({"x": x}, (2, 3, 16, 24)),
        (None, (1, 3, 224, 224)),
    ):
        assert probe(model, given).values[0].shape == shape
    args, kwargs = resolve_example(model, {"x": [x, {"y": (x,)}], "flag": True})
    assert args == ()
    assert kwargs["x"][0].is_meta
    assert kwargs["x"][1]["y"][0].is_meta
    assert kwargs["flag"] is True
    assert resolve_example(model, [x])[0][0][0].is_meta
    for wrong in ("cat", 3, 2.5, object()):
        with pytest.raises(OptionError, match="example="):
            probe(model, wrong)


def test_the_size_of_one_volume() -> None:
    volumes = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU())
    assert probe(volumes, (2, 8, 16, 16)).inputs[0].shape == (1, 2, 8, 16, 16)
    frames = nn.Sequential(nn.Unflatten(1, (1, 8)), volumes[1:], nn.Conv3d(1, 4, 3))
    del frames[1]
    assert probe(frames, (1, 8, 16, 16)).inputs[0].shape == (1, 8, 16, 16)


def test_several_arguments() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.pool = nn.Conv2d(3, 4, 1), nn.Conv2d(1, 4, 1), nn.MaxPool2d(2)

        def forward(self, x: Tensor, mask: Tensor, *, scale: float = 1.0) -> Tensor:
            return self.pool(F.relu(self.a(x) + self.b(mask) * scale))

    model = Two()
    inputs = (example(), torch.ones(2, 1, 64, 64))
    with pytest.raises(TraceError, match="mask"):
        attnzoo.plan(model, "pre-pool", example=SIZE)
    plan = attnzoo.plan(model, "pre-pool", example=inputs)
    assert plan.recipe.input_size is None
    named = {"x": inputs[0], "mask": inputs[1], "scale": 2.0}
    assert attnzoo.plan(model, "pre-pool", example=named).sites == plan.sites
    before = model(*inputs)
    plan.apply()
    assert same_bits(model(*inputs), before)


@pytest.mark.parametrize("wrong", [(4, 64, 64), (3, 2, 2), torch.zeros(2, 7), (torch.zeros(1), 3)])
def test_a_wrong_example_is_explained(wrong: Any) -> None:
    with pytest.raises(TraceError, match=r"PlainVGG failed on an example of .*\n.*example="):
        probe(PlainVGG(), wrong)


def test_images_of_other_dtypes() -> None:
    class Normalises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = PlainVGG()

        def forward(self, x: Tensor) -> Tensor:
            x = x / 255 if x.dtype == torch.uint8 else x
            return self.model(torch.where(x > 0.5, x * 2, x.sigmoid()))

    model = Normalises()
    images = (example() * 50).abs().to(torch.uint8)
    assert probe(model, images).stopped == ""
    assert probe(model.double(), SIZE).stopped == ""
    before = outputs(model.float(), images)
    attnzoo.wrap(model, "pre-pool", example=images)
    assert same_bits(outputs(model, images), before)


def test_the_size_a_model_is_made_for() -> None:
    with torch.device("meta"):
        timm_model = timm.create_model("efficientnet_b1")
        inception = torchvision.models.inception_v3(init_weights=False, aux_logits=False)
        grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2))
        efficient = torchvision.models.efficientnet_b1()
    assert default_input_size(timm_model) == tuple(timm_model.default_cfg["input_size"])
    assert default_input_size(inception) == (3, 299, 299)
    assert default_input_size(efficient) == (3, 224, 224)  # its file begins with the B0
    assert default_input_size(grey) == (1, 224, 224)
    assert default_input_size(nn.ReLU()) == (3, 224, 224)
    assert attnzoo.plan(grey, "pre-pool").recipe.input_size == (1, 224, 224)
