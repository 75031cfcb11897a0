"""YOLO: attention in Ultralytics' network, trained by Ultralytics' own trainer.

    pip install ultralytics     # AGPL-3.0; attnzoo itself does not use it
    python examples/yolo.py                                     # about a minute
    python examples/yolo.py --model yolo11n.yaml --policy in-residual

`YOLO(…).train()` builds its network anew, so attention goes in where the trainer gets it:
`get_model`. No key changes, so weights from a plain checkpoint (`--model yolov8n.pt`, which is
downloaded) move over before attention is put in, and checkpoints with attention load as usual.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import intersect_dicts

import attnzoo
from attnzoo.train import ClutteredDigits

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--model", default="yolov8n.yaml", help="a YAML of Ultralytics, or weights")
parser.add_argument("--policy", default="auto")
parser.add_argument("--block", default="se")
parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
parser.add_argument("--images", type=int, default=128)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--out", type=Path, help="folder to keep; default: a temporary one")
args = parser.parse_args()


class AttentionTrainer(DetectionTrainer):
    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        network = super().get_model(cfg, weights, verbose)
        plain = network.state_dict()
        plan = attnzoo.plan(network, args.policy, args.block, example=(3, args.size, args.size))
        print(plan)
        plan.apply()
        moved = intersect_dicts(plain, network.state_dict())
        print(f"its loader finds {len(moved)} of {len(plain)} plain tensors under their keys")
        if weights:
            network.load(weights)  # once more: attention too, where the checkpoint has it
        return network


def write(folder: Path, split: str, count: int) -> None:
    """PNGs, and for each a text file: class, centre, width and height of the digit's box."""
    for part in ("images", "labels"):
        (folder / part / split).mkdir(parents=True, exist_ok=True)
    digits = ClutteredDigits(split, size=args.size, clutter=3).draw(range(count))
    boxes = digits.boxes / args.size
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    for index, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        pixels = (image * 255).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB").save(folder / "images" / split / f"{index}.png")
        numbers = " ".join(f"{number:.4f}" for number in (*centres[index], *sides[index]))
        (folder / "labels" / split / f"{index}.txt").write_text(f"{label} {numbers}\n")


def main(folder: Path) -> None:
    write(folder, "train", args.images)
    write(folder, "test", max(args.images // 4, 4))
    names = ", ".join(f'"{number}"' for number in range(10))
    data = folder / "digits.yaml"
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/test\nnames: [{names}]\n")
    options = {"data": data, "imgsz": args.size, "device": "cpu", "workers": 0, "plots": False}
    YOLO(args.model).train(
        trainer=AttentionTrainer, epochs=args.epochs, project=folder, name="run", **options
    )

    again: DetectionModel = YOLO(folder / "run" / "weights" / "last.pt").model
    print("last.pt holds", *attnzoo.recipes(again))
    gammas = [p for name, p in again.named_parameters() if name.endswith(".gamma")]
    moved = torch.cat([gamma.abs() for gamma in gammas]).mean().item()
    print(f"{len(gammas)} blocks of attention; γ has moved by {moved:.1e} on average")
    x = torch.rand(1, 3, args.size, args.size)
    with torch.no_grad():
        before = again.eval()(x)[0]
        change = (again.fuse(verbose=False)(x)[0] - before).abs().max().item()
    blocks = len(attnzoo.attention_modules(again))
    print(f"fused, it still has {blocks} blocks; its outputs change by {change:.1e}")


with tempfile.TemporaryDirectory() as temporary:
    main((args.out or Path(temporary)).resolve())
