"""torchvision's segmentation networks: dilated trunks, two heads, a dict of maps."""

from __future__ import annotations

import pytest
import torch
import torchvision
from tasks import let_attention_in, not_learning, run, same_everywhere
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import snapshot

import attnzoo

pytestmark = pytest.mark.no_cover

SIZE = 96
CLASSES = 3

#: name → how many sites `auto` finds, with which policy.
NETWORKS = {
    "deeplabv3_resnet50": (16, "post-residual"),
    "deeplabv3_resnet101": (33, "post-residual"),
    "deeplabv3_mobilenet_v3_large": (15, "mbconv"),
    "fcn_resnet50": (16, "post-residual"),
    "fcn_resnet101": (33, "post-residual"),
    "lraspp_mobilenet_v3_large": (15, "mbconv"),
}


def _build(name: str) -> nn.Module:
    aux = {} if name.startswith("lraspp") else {"aux_loss": True}
    return torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=CLASSES, **aux
    )


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    return images, torch.randint(CLASSES, (2, SIZE, SIZE), generator=generator)


def _train_step(model: nn.Module) -> None:
    images, masks = _batch()
    outputs = let_attention_in(model).train()(images)
    losses = torch.stack([F.cross_entropy(output, masks) for output in outputs.values()])
    assert losses.isfinite().all()
    losses.sum().backward()
    assert not_learning(model) == {}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_unchanged_learns_and_is_itself_again(name: str) -> None:
    model, (images, _) = _build(name), _batch()
    keys, types = list(model.state_dict()), [type(module) for module in model.modules()]
    before, untouched = run(model, images), snapshot(model)
    plan = attnzoo.plan(model, "auto", "se", reduction=2, example=(3, SIZE, SIZE))
    assert (len(plan.sites), plan.recipe.policies[0].name) == NETWORKS[name]
    assert not plan.trace.stopped
    alone = attnzoo.plan(model.backbone, "auto", "se", reduction=2, example=images)
    assert [f"backbone.{edit.path}" for edit in alone.edits] == [edit.path for edit in plan.edits]
    assert snapshot(model) == untouched

    plan.apply()
    assert same_everywhere(run(model, images), before)
    assert set(keys) < set(model.state_dict())
    _train_step(model)

    attnzoo.unwrap(model)
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == types


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_attention_in_the_head(name: str) -> None:
    model, (images, _) = _build(name), _batch()
    before = run(model, images)
    head = ("match", {"pattern": "classifier*", "type": "Conv2d", "min_channels": 16})
    attnzoo.wrap(model, ["auto", head], "se", reduction=2, example=images)
    paths = list(attnzoo.attention_modules(model))
    assert {path.partition(".")[0] for path in paths} == {"backbone", "classifier"}
    assert same_everywhere(run(model, images), before)
    _train_step(model)
