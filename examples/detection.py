"""Detection: attention in the backbone of a torchvision detector, trained on cluttered digits.

    python examples/detection.py                          # Faster R-CNN on ResNet-18, a minute
    python examples/detection.py --policy in-residual --block cbam

Each image holds one digit among fragments of others, and its box is known. For a pretrained
detector, `torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT")` takes the place
of `build`; the lines after it stay.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import box_iou

import attnzoo
from attnzoo.train import ClutteredDigits

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--policy", default="post-residual")
parser.add_argument("--block", default="se")
parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--steps", type=int, default=90)
args = parser.parse_args()


def build() -> nn.Module:
    """Small, and with BatchNorm that learns: nothing in it is pretrained."""
    trunk = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return FasterRCNN(
        trunk,
        num_classes=11,  # ten digits and the background
        min_size=args.size,
        max_size=args.size,
        box_batch_size_per_image=32,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=50,
        box_score_thresh=0.0,
        box_detections_per_img=1,
    )


def draw(split: str, start: int, count: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    digits = ClutteredDigits(split, size=args.size, clutter=3).draw(range(start, start + count))
    images = [torch.from_numpy(image).float().expand(3, -1, -1) for image in digits.images]
    targets = [
        {"boxes": torch.tensor([box], dtype=torch.float32), "labels": torch.tensor([label + 1])}
        for box, label in zip(digits.boxes.tolist(), digits.labels.tolist(), strict=True)
    ]
    return images, targets


@torch.no_grad()
def overlap(detector: nn.Module) -> float:
    """How far the best box of each test image covers its digit: mean intersection over union."""
    images, targets = draw("test", 0, 16)
    found = zip(detector.eval()(images), targets, strict=True)
    pairs = [(result["boxes"], target["boxes"]) for result, target in found]
    return sum(box_iou(*pair).sum().item() for pair in pairs) / len(pairs)


torch.manual_seed(0)
detector = build()
images, _ = draw("test", 0, 2)
with torch.no_grad():
    before = detector.eval()(images)

# Through the whole detector, which takes a list of images. Its forward pass is followed up to the
# first non-maximum suppression, by which time it has gone through the backbone. As well:
# attnzoo.wrap(detector.backbone, …, example=(3, 64, 64)).
plan = attnzoo.plan(detector, args.policy, args.block, example=images)
print(plan)
plan.apply()
with torch.no_grad():
    after = detector.eval()(images)
same = all(torch.equal(a[key], b[key]) for a, b in zip(after, before, strict=True) for key in a)
print("boxes, labels and scores after wrap are", "the same" if same else "others")
print(f"overlap before training: {overlap(detector):.2f}")

optimizer = torch.optim.AdamW(attnzoo.param_groups(detector, lr=3e-4, attention_lr_scale=10))
begin = time.perf_counter()
for step in range(args.steps):
    losses = detector.train()(*draw("train", step * args.batch, args.batch))
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 0 or (step + 1) % max(args.steps // 5, 1) == 0:
        print(f"step {step + 1:4d}  loss {loss.item():.3f}  {time.perf_counter() - begin:.0f} s")
print(f"overlap after training: {overlap(detector):.2f}")
