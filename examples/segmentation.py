"""Segmentation: attention in a torchvision network, trained to find the digit among fragments.

    python examples/segmentation.py                                # LR-ASPP, under a minute
    python examples/segmentation.py --model deeplabv3_resnet50 --policy in-residual --block cbam

A pixel belongs to the digit if it is ink within the digit's box; fragments of other digits are
background, though they look the same from near.
"""

from __future__ import annotations

import argparse
import time

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import attnzoo
from attnzoo.train import ClutteredDigits

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--model", default="lraspp_mobilenet_v3_large")
parser.add_argument("--policy", default="auto")
parser.add_argument("--block", default="se")
parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--steps", type=int, default=240)
args = parser.parse_args()


def draw(split: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images `(N, 3, S, S)` and masks `(N, S, S)`: 1 on the digit, 0 elsewhere."""
    digits = ClutteredDigits(split, size=args.size, clutter=4).draw(range(start, start + count))
    images = torch.from_numpy(digits.images).float()
    masks = torch.zeros(images.shape, dtype=torch.int64)
    for image, mask, (left, top, right, bottom) in zip(images, masks, digits.boxes, strict=True):
        mask[top:bottom, left:right] = image[top:bottom, left:right] > 0.2
    return images[:, None].repeat(1, 3, 1, 1), masks


@torch.no_grad()
def overlap(network: nn.Module) -> float:
    """Intersection over union of found and true digit pixels, over some test images."""
    images, masks = draw("test", 0, 32)
    found = network.eval()(images)["out"].argmax(1).bool()
    return ((found & masks.bool()).sum() / (found | masks.bool()).sum()).item()


torch.manual_seed(0)
network = torchvision.models.get_model(
    args.model, weights=None, weights_backbone=None, num_classes=2
)
for module in network.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.momentum = 0.1  # MobileNetV3's 0.01 remembers too long for a run this short
images, _ = draw("test", 0, 2)
with torch.no_grad():
    before = network.eval()(images)["out"]

plan = attnzoo.plan(network, args.policy, args.block, example=(3, args.size, args.size))
print(plan)
plan.apply()
with torch.no_grad():
    same = torch.equal(network(images)["out"], before)
print("maps after wrap are", "the same" if same else "others")
print(f"overlap before training: {overlap(network):.2f}")

optimizer = torch.optim.AdamW(attnzoo.param_groups(network, lr=1e-3, attention_lr_scale=10))
weights = torch.tensor([1.0, 4.0])  # there is more background than ink
begin = time.perf_counter()
for step in range(args.steps):
    images, masks = draw("train", step * args.batch, args.batch)
    loss = F.cross_entropy(network.train()(images)["out"], masks, weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 0 or (step + 1) % max(args.steps // 5, 1) == 0:
        print(f"step {step + 1:4d}  loss {loss.item():.3f}  {time.perf_counter() - begin:.0f} s")
print(f"overlap after training: {overlap(network):.2f}")
