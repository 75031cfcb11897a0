"""Time and memory of every block, beside timm's layer where timm has the same one.

    make bench-blocks

Forward (inference) and forward with backward, in turns in one run, and the most memory that is
taken at once by what they make. On a CUDA device if there is one.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import accumulate

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported

import timm.layers
import timm.layers.bottleneck_attn
import timm.layers.cbam
import timm.layers.coord_attn
import timm.layers.grn
import torch
from timing import in_turns
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import attnzoo

BATCH, C, SIDE = 8, 256, 28
ROUNDS, MOST, SECONDS = 15, 301, 2.0  # more rounds where they are short
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

#: Our block → timm's, of the same widths.
TWINS: dict[str, Callable[[], nn.Module]] = {
    "se": lambda: timm.layers.SEModule(C, rd_channels=C // 16),
    "ese": lambda: timm.layers.EffectiveSEModule(C),
    "eca": lambda: timm.layers.EcaModule(C),
    "cbam": lambda: timm.layers.cbam.CbamModule(C, rd_ratio=1 / 16),
    "spatial": lambda: timm.layers.cbam.SpatialAttn(7),
    "coord": lambda: timm.layers.coord_attn.CoordAttn(C, rd_channels=max(C // 32, 8), bias=True),
    "gc": lambda: timm.layers.GlobalContext(
        C, rd_channels=C // 16, fuse_add=True, fuse_scale=False
    ),
    "grn": lambda: timm.layers.grn.GlobalResponseNorm(C, channels_last=False),
    "nonlocal": lambda: timm.layers.NonLocalAttn(C, rd_channels=C // 2),
    "mhsa": lambda: timm.layers.bottleneck_attn.BottleneckAttn(C, feat_size=(SIDE, SIDE)),
}


def forward(block: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        block(x)
    _wait()


def train(block: nn.Module, x: Tensor, gradient: Tensor) -> None:
    block(x).backward(gradient)
    _wait()


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes allocated at once beyond those before `run`."""
    run()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    changes = [e.nbytes() for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(changes), default=0)


def main() -> None:
    torch.set_num_threads(1)  # threads that wait for each other would be all the noise
    wanted = sys.argv[1:] or attnzoo.list_blocks()
    shape = (BATCH, C, SIDE, SIDE)
    print(f"{shape}, float32, {DEVICE}; milliseconds, medians of {ROUNDS} to {MOST} rounds")
    heads = ("forward", "/ timm", "train", "/ timm", "peak MB", "/ timm")
    print("block".ljust(14) + "".join(f"{h:>{8 + (i % 2 == 0)}}" for i, h in enumerate(heads)))
    for name in wanted:
        torch.manual_seed(0)
        x = torch.randn(BATCH, C, SIDE, SIDE, device=DEVICE)
        gradient, leaf = torch.randn_like(x), x.clone().requires_grad_()
        blocks = {"ours": attnzoo.create_block(name, C)}
        if name in TWINS:
            blocks["timm"] = TWINS[name]()
        cells = []
        for mode in ("eval", "train"):
            runs: dict[str, Callable[[], object]] = {}
            for whose, block in blocks.items():
                block.to(DEVICE).train(mode == "train")
                runs[whose] = (
                    partial(forward, block, x)
                    if mode == "eval"
                    else partial(train, block, leaf, gradient)
                )
            once = sum(map(min, in_turns(runs, 2).values()))
            seconds = in_turns(runs, min(max(ROUNDS, int(SECONDS / once)), MOST))
            cells += [_milliseconds(seconds["ours"]), _ratio(seconds)]
        taken = {whose: peak_bytes(run) for whose, run in runs.items()}
        share = f"{taken['ours'] / taken['timm']:8.2f}" if "timm" in taken else ""
        cells += [f"{taken['ours'] / 1e6:9.1f}", share]
        print(f"{name:14}{''.join(cells)}", flush=True)


def _milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:9.2f}"


def _ratio(seconds: dict[str, list[float]]) -> str:
    """The median of the rounds' ratios, ours over timm's."""
    if "timm" not in seconds:
        return f"{'':8}"
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["timm"], strict=True)]
    return f"{statistics.median(ratios):8.2f}"


if __name__ == "__main__":
    main()
