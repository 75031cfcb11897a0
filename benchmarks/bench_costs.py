"""What attention costs four backbones at their full size, beside the article's 15 to 20 %.

python benchmarks/bench_costs.py          # into docs/data/costs.csv, for docs/studies/cost.md

Images of 224 pixels, 1,000 classes, the policy that `auto` chooses. Parameters, MACs and activation
bytes are counted. The bytes that a training step of two images keeps for its backward pass are
counted tensor by tensor; the time of a forward pass of one image, on one thread, is measured with
all variants taking turns, each turn held against the plain network in that turn.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import torch
import yaml

import attnzoo
from attnzoo.backbones import create_backbone
from attnzoo.study import load_study
from attnzoo.study.numbers import measure

BACKBONES = ["vgg16_bn", "resnet18", "densenet121", "efficientnet_b0"]
BLOCKS = ["affine", "conv", "local", "se", "eca", "cbam", "simam", "gc"]
OUT = Path(__file__).parents[1] / "docs" / "data" / "costs.csv"
SIZE = (3, 224, 224)
STUDY = {
    "question": "What does attention cost?",
    "data": {"name": "cluttered-digits", "size": SIZE[-1], "train": 2, "test": 2},
    "train": {"batch_size": 2},
    "seeds": [0],
    "controls": False,
    "backbones": [f"torchvision/{name}" for name in BACKBONES],
    "variants": ["plain", *({"policy": "auto", "block": block} for block in BLOCKS)],
}


def main() -> None:
    torch.set_num_threads(1)
    measure.SECONDS = 30.0  # a backbone: some turns of each variant
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "study.yaml"
        written.write_text(yaml.safe_dump(STUDY), "utf-8")
        costs = measure.measure_costs(load_study(written), folder, 1000)
    rows = []
    for entry in costs.backbones:
        if entry.failed:
            raise SystemExit(f"{entry.backbone}: {entry.failed}")
        plain = entry.variants[0]
        for variant, block in zip(entry.variants[1:], BLOCKS, strict=True):
            with torch.device("meta"):
                network = create_backbone(entry.backbone, num_classes=1000)
            before = attnzoo.cost(network, SIZE)
            plan = attnzoo.plan(network, "auto", block, example=SIZE)
            rows.append(
                {
                    "backbone": entry.backbone.removeprefix("torchvision/"),
                    "block": block,
                    "places": len(plan.sites),
                    "parameters": plan.parameters / before.parameters,
                    "macs": plan.macs / before.macs,
                    "activations": plan.activation_bytes / before.activation_bytes,
                    "kept": variant.saved_bytes / plain.saved_bytes - 1,
                    "time": variant.slowdown.median - 1,
                    "time_low": variant.slowdown.low - 1,
                    "time_high": variant.slowdown.high - 1,
                    "turns": entry.rounds[0],
                    "device": entry.device,
                    "torch": torch.__version__.partition("+")[0],
                }
            )
            print(*(f"{v:+.4f}" if isinstance(v, float) else v for v in rows[-1].values()))
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            cells = (f"{v:.5g}" if isinstance(v, float) else v for v in row.values())
            writer.writerow(dict(zip(row, cells, strict=True)))


if __name__ == "__main__":
    main()
