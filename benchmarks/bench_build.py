"""How long `attnzoo.wrap` takes, against building the network that it changes.

    python benchmarks/bench_build.py [PATTERN ...]

Every convolutional network of the sweep's table that was built with real weights there and whose
name fits a pattern, `timm/resnet*` say; without one all of them, which takes a quarter of an hour.
Each is built and wrapped three times with the policy `auto` and the block `local`, at the model's
own input size, and the medians are compared. Checks and both forward passes on meta tensors are
part of `wrap`.
"""

from __future__ import annotations

import csv
import gc
import statistics
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import torch

import attnzoo
from attnzoo.backbones import create_backbone

TABLE = Path(__file__).parents[1] / "docs" / "data" / "coverage.csv"
ROUNDS = 3


def names(patterns: list[str]) -> list[str]:
    with TABLE.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["policy"] == "auto"]
    found = [r["model"] for r in rows if r["kind"] == "cnn" and r["device"] == "cpu"]
    return [name for name in found if any(fnmatchcase(name, p) for p in patterns or ["*"])]


def main() -> None:
    torch.set_num_threads(1)  # threads that wait for each other would be all the noise
    ratios: dict[str, float] = {}
    totals = [0.0, 0.0]
    for name in names(sys.argv[1:]):
        built, wrapped = [], []
        for _ in range(ROUNDS):
            gc.collect()  # what the network before this one left
            begin = time.perf_counter()
            model = create_backbone(name)
            built.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            attnzoo.wrap(model)
            wrapped.append(time.perf_counter() - begin)
            del model
        build, wrap = statistics.median(built), statistics.median(wrapped)
        ratios[name] = wrap / build
        totals = [totals[0] + build, totals[1] + wrap]
        print(f"{name:50} build {build * 1e3:8.1f} ms  wrap {wrap * 1e3:8.1f} ms"
              f"  ratio {wrap / build:.2f}", flush=True)  # fmt: skip
    quicker = sum(ratio < 1 for ratio in ratios.values())
    low, middle, high = statistics.quantiles(ratios.values(), n=4)
    print(f"{len(ratios)} networks: wrap is quicker for {quicker}; on average build "
          f"{totals[0] / len(ratios) * 1e3:.0f} ms, wrap {totals[1] / len(ratios) * 1e3:.0f} ms; "
          f"ratio {middle:.2f} ({low:.2f} to {high:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
