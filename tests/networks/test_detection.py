"""torchvision's detectors: attention in the backbone or through the whole model, then training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from tasks import let_attention_in, not_learning, run, same_everywhere
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from zoo import snapshot

import attnzoo
from attnzoo.errors import NoSitesError

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.filterwarnings("ignore:Changing trainable_backbone_layers"),
]

SIZE = 96
SMALL = {"min_size": SIZE, "max_size": SIZE}
FEW = SMALL | {  # boxes to look at in training and to return
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 20,
    "box_batch_size_per_image": 16,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 5,
}

#: name → options that make it small, and the policy that `auto` comes to.
DETECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "fasterrcnn_resnet50_fpn": (FEW, "post-residual"),
    "fasterrcnn_resnet50_fpn_v2": (FEW, "post-residual"),
    "fasterrcnn_mobilenet_v3_large_fpn": (FEW, "mbconv"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (FEW, "mbconv"),
    "maskrcnn_resnet50_fpn": (FEW, "post-residual"),
    "maskrcnn_resnet50_fpn_v2": (FEW, "post-residual"),
    "keypointrcnn_resnet50_fpn": (FEW, "post-residual"),
    "retinanet_resnet50_fpn": (SMALL, "post-residual"),
    "retinanet_resnet50_fpn_v2": (SMALL, "post-residual"),
    "fcos_resnet50_fpn": (SMALL, "post-residual"),
    "ssd300_vgg16": ({}, "pre-pool"),
    "ssdlite320_mobilenet_v3_large": ({}, "mbconv"),
}


def _build(name: str) -> nn.Module:
    options = dict(DETECTORS[name][0])
    if not name.startswith("ssd"):
        options["num_classes"] = 2
    return torchvision.models.get_model(
        name, weights=None, weights_backbone=None, **{"num_classes": 2, **options}
    )


def _images(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = ((SIZE, SIZE), (SIZE, 80))[:count]
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def _targets(images: list[Tensor]) -> list[dict[str, Tensor]]:
    """One box for each image, with a mask and 17 keypoints inside it."""
    targets = []
    for image in images:
        mask = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
        mask[0, 15:45, 25:55] = 1
        keypoints = torch.cat([torch.linspace(26, 54, 34).view(1, 17, 2), torch.ones(1, 17, 1)], 2)
        targets.append(
            {
                "boxes": torch.tensor([[20.0, 10.0, 75.0, 70.0]]),
                "labels": torch.tensor([1]),
                "masks": mask,
                "keypoints": keypoints,
            }
        )
    return targets


def _train_step(model: nn.Module, images: list[Tensor]) -> None:
    """Finite losses, and a gradient for all attention."""
    losses = let_attention_in(model).train()(images, _targets(images))
    assert [name for name, loss in losses.items() if not loss.isfinite()] == []
    torch.stack(list(losses.values())).sum().backward()
    assert not_learning(model) == {}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_unchanged_learns_and_is_itself_again(name: str) -> None:
    model = _build(name)
    images = _images(1 if name == "ssd300_vgg16" else 2)  # which it enlarges to 300 × 300
    keys, types = list(model.state_dict()), [type(module) for module in model.modules()]
    before, untouched = run(model, images), snapshot(model)
    plan = attnzoo.plan(model, "auto", "se", reduction=2, example=images)
    assert "nonzero" in plan.trace.stopped  # values decide from here on; the backbone is complete
    assert [call.name for call in plan.recipe.policies] == [DETECTORS[name][1]]

    alone = attnzoo.plan(model.backbone, "auto", "se", reduction=2, example=(3, 300, 300))
    assert [f"backbone.{edit.path}" for edit in alone.edits] == [edit.path for edit in plan.edits]
    assert snapshot(model) == untouched

    plan.apply()
    assert before
    assert same_everywhere(run(model, images), before)
    assert set(keys) < set(model.state_dict())  # so checkpoints of the detector load as they are
    _train_step(model, images)

    attnzoo.unwrap(model)
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == types


@pytest.mark.parametrize("policy", ["in-residual", "post-residual", "pre-pool"])
def test_a_trunk_of_frozen_layers_and_frozen_norms(policy: str) -> None:
    """Pretrained trunks come with `FrozenBatchNorm2d` and two or three layers to train."""
    trunk = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=1
    )
    model = FasterRCNN(trunk, num_classes=2, **FEW)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    before, untouched = run(model, _images()), snapshot(model)
    attnzoo.wrap(model.backbone, policy, "local", example=(3, SIZE, SIZE))
    assert same_everywhere(run(model, _images()), before)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name.replace("maxpool.", "maxpool.host.") for name in frozen
    }
    assert frozen
    _train_step(model, _images())  # attention in the frozen layers learns too
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert snapshot(attnzoo.unwrap(model)) == untouched  # frozen norms keep no statistics


def test_a_frozen_norm_can_hold_attention() -> None:
    norm = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.ReLU())
    images = torch.stack([image[:, :64, :64] for image in _images()])
    before = run(norm, images)
    attnzoo.wrap(norm, ("match", {"type": "FrozenBatchNorm2d"}), "se", example=(3, 64, 64))
    assert same_everywhere(run(norm, images), before)


def test_a_detector_finds_its_own_example() -> None:
    model = _build("ssdlite320_mobilenet_v3_large")
    plans = [attnzoo.plan(model, "auto", "se", reduction=2, example=e) for e in (None, _images())]
    assert [site.path for site in plans[0].sites] == [site.path for site in plans[1].sites]


def test_why_a_policy_finds_nothing_in_a_detector() -> None:
    model = _build("ssdlite320_mobilenet_v3_large")
    untouched = snapshot(model)
    with pytest.raises(NoSitesError, match=r"(?s)transition.*only up to.*nonzero"):
        attnzoo.wrap(model, "transition", "se", example=_images())
    assert snapshot(model) == untouched
