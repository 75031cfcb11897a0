"""What switching takes on an attended ResNet-50: one insertion, another, none. CPU time.

python benchmarks/bench_switch.py
"""

from __future__ import annotations

import statistics
import time

import torch
import torchvision

import attnzoo


def main() -> None:
    torch.set_num_threads(1)
    model = torchvision.models.resnet50().eval()
    attnzoo.wrap(model, "in-residual", "se", name="a", example=(3, 64, 64))
    stacked = ("in-residual", {"occupied": "stack"})
    attnzoo.wrap(model, stacked, "eca", name="b", example=(3, 64, 64))
    times: dict[str, list[float]] = {"a": [], "b": [], "none": []}
    for _ in range(200):
        for name, kept in times.items():
            begin = time.process_time()
            attnzoo.switch(model, None if name == "none" else name)
            kept.append(1e3 * (time.process_time() - begin))
    count = len(attnzoo.attention_modules(model))
    print(f"torch {torch.__version__}, ResNet-50, {count} attentions in two insertions")
    for name, kept in times.items():
        kept.sort()
        print(
            f"  switch to {name:5}: median {statistics.median(kept):.3f} ms, "
            f"of 200 the slowest {kept[-1]:.3f} ms"
        )


if __name__ == "__main__":
    main()
