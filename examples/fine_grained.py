"""Fine-grained classification: attention into a trained network; it learns first, then all does.

    python examples/fine_grained.py                                  # cluttered digits, a minute
    python examples/fine_grained.py --data birds/ --pretrained --size 224 --model resnet50

A folder holds `train/` and `test/`, each with one folder of images a class. On digits the network
is first trained without clutter: that stands for what a pretrained network knows.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets

import attnzoo
from attnzoo.backbones import NetworkRecipe, create_backbone, head_of, input_options
from attnzoo.train import ClutteredDigits, PictureOptions

Batches = Iterator[tuple[Tensor, Tensor]]


def digits(split: str, args: argparse.Namespace, clutter: int = 4) -> Batches:
    images = ClutteredDigits(split, size=args.size, clutter=clutter, digit=(0.6, 0.8))
    for start in itertools.count(0, args.batch):
        yield images.__getitems__([(0, 0, start + index) for index in range(args.batch)])


def folder(split: str, args: argparse.Namespace) -> Batches:
    transform = prepared.transform(training=split == "train")
    images = datasets.ImageFolder(args.data / split, transform)
    while True:
        yield from DataLoader(images, args.batch, shuffle=split == "train")


def train(network: nn.Module, batches: Batches, steps: int, groups: list) -> None:
    optimizer = torch.optim.AdamW(groups)
    for images, labels in itertools.islice(batches, steps):
        loss = F.cross_entropy(network(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def report(phase: str) -> None:
    network.eval()
    batches = itertools.islice(source("test", args), 20)
    right = torch.cat([network(images).argmax(1) == labels for images, labels in batches])
    print(f"{phase:26s} test accuracy {right.float().mean():.3f}")


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--data", type=Path, help="folder of images; default: cluttered digits")
parser.add_argument("--model", default="resnet18", help="any CNN of timm")
parser.add_argument("--pretrained", action="store_true", help="download what ImageNet taught it")
parser.add_argument("--policy", default="auto")
parser.add_argument("--block", default="local")
parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--steps", type=int, default=100, help="in each phase")
args = parser.parse_args()

torch.manual_seed(0)
source = folder if args.data else digits
folders = sorted(entry.name for entry in (args.data / "train").iterdir()) if args.data else []
names = tuple(folders) or tuple(map(str, range(10)))
classes = len(names)
weights = "DEFAULT" if args.pretrained else None
# Mean, standard deviation and so on are what the weights expect.
expected = input_options(f"timm/{args.model}", weights, {})
prepared = PictureOptions(size=args.size).filled(expected)
network = create_backbone(f"timm/{args.model}", weights=weights, num_classes=classes)
if not args.data:
    groups = attnzoo.param_groups(network, lr=1e-3)
    train(network.train(), digits("train", args, clutter=0), 2 * args.steps, groups)

report("before")
attnzoo.wrap(network, args.policy, args.block, example=(3, args.size, args.size))
report("wrapped")  # the same: attention starts as the identity

# Attention and the new classifier alone; the rest, BatchNorm's statistics too, stays as it is.
attnzoo.freeze(network, keep=head_of(network, (3, args.size, args.size)))
groups = attnzoo.param_groups(network, lr=1e-3, attention_lr_scale=10)
train(network.eval(), source("train", args), args.steps, groups)
report("attention learned")

# Then everything. γ started at zero, so attention keeps the higher rate; norms are not decayed.
network.requires_grad_(True)
groups = attnzoo.param_groups(network, lr=3e-4, weight_decay=0.05, attention_lr_scale=10)
train(network.train(), source("train", args), args.steps, groups)
report("everything learned")

# The whole network, how it is built and how pictures are prepared for it, so that it can be used
# anywhere: attnzoo predict network.safetensors PICTURES, or attnzoo.trained.open_network.
told = {"size", "mean", "std", "interpolation", "test_crop"}
recipe = NetworkRecipe(
    f"timm/{args.model}",
    num_classes=classes,
    replaced=True,
    size=args.size,
    classes=names,
    input=prepared.model_dump(mode="json", include=told) if args.data else {},
)
attnzoo.save(network, "network.safetensors", what="all", network=recipe)
print("network.safetensors:", *attnzoo.recipes(network))
