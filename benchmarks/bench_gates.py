"""Time of attention alone beside another build of attnzoo, in turns in one run.

    git archive 305edfb attnzoo | tar x -C /tmp/before    # or any other revision
    make bench-gates BEFORE=/tmp/before

Forward (inference) and forward with backward (training), eager, one thread, with the identity
start and a γ that has opened, of blocks as wide as the other build makes them. Both builds live in
this process; the ratios are those of neighbouring turns, in the processor's time, with 95 %
intervals of their medians.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from timing import in_turns, keep_memory, ratio
from torch import Tensor, nn

SHAPES = ((64, 56, 56), (256, 28, 28), (512, 14, 14))
LEAST, MOST = 9, 301  # rounds


def own_modules() -> dict[str, ModuleType]:
    return {name: m for name, m in sys.modules.items() if name.partition(".")[0] == "attnzoo"}


def load_build(folder: Path) -> dict[str, ModuleType]:
    """The package in the folder and its modules, beside the one that is imported already."""
    others = own_modules()
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("attnzoo.hosts")
        importlib.import_module("attnzoo").list_blocks()  # all are registered
        found = own_modules()
    finally:
        sys.path.pop(0)
        for name in own_modules():
            del sys.modules[name]
        sys.modules.update(others)
    if not (found["attnzoo"].__file__ or "").startswith(str(folder)):
        raise SystemExit(f"{folder} holds no package attnzoo")
    return found


def built(modules: dict[str, ModuleType], name: str, channels: int, **options: Any) -> nn.Module:
    """A block at its place, softened by a γ unless it is the identity as it is built."""
    spec = modules["attnzoo.registry"].BLOCKS[name]
    block = spec.build(channels, **options)
    attention = modules["attnzoo.hosts"].Attention
    made = attention(block, name, channels, gamma=not spec.identity_at_init)
    if made.gamma is not None:
        torch.nn.init.normal_(made.gamma, std=0.1)
    return made


def forward(module: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        module(x)


def train(module: nn.Module, x: Tensor, gradient: Tensor) -> None:
    torch.autograd.grad(module(x), [x, *module.parameters()], gradient, allow_unused=True)


def cell(run: Callable[[nn.Module], Callable[[], None]], pair: list[nn.Module], s: float) -> str:
    runs = {"now": run(pair[0]), "before": run(pair[1])}
    once = sum(map(min, in_turns(runs, 2, time.process_time).values()))
    seconds = in_turns(runs, min(max(LEAST, int(s / once)), MOST), time.process_time)
    middle, low, high = ratio(seconds["now"], seconds["before"])
    return f"  {middle:4.2f} ({low:4.2f} to {high:4.2f})"


def main() -> None:
    arguments = argparse.ArgumentParser(description="see the head of the file")
    arguments.add_argument("before", type=Path, help="folder that holds the other build")
    arguments.add_argument("blocks", nargs="*", help="all that both builds have, unless named")
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    given = arguments.parse_args()
    keep_memory()
    torch.set_num_threads(1)

    import attnzoo
    from attnzoo.registry import BLOCKS

    importlib.import_module("attnzoo.hosts")
    attnzoo.list_blocks()
    now, before = own_modules(), load_build(given.before.resolve())
    theirs = set(before["attnzoo"].list_blocks())
    names = given.blocks or [n for n in attnzoo.list_blocks() if n in theirs and n != "none"]
    print(f"now / before, batch {given.batch}, float32, one thread, γ open")
    heads = [f"{'×'.join(map(str, s))} {m}" for s in SHAPES for m in ("forward", "train")]
    print(f"{'block':14}" + "".join(f"{head:>23}" for head in heads))
    for name in names:
        cells = []
        for channels, *size in SHAPES:
            former = {k: v for k, v in BLOCKS[name].former.items() if k == "floor"}
            pair = [built(now, name, channels, **former), built(before, name, channels)]
            x = torch.randn(given.batch, channels, *size)
            pair[1].load_state_dict(pair[0].state_dict())
            for module in pair:
                module.eval()
            torch.testing.assert_close(pair[0](x), pair[1](x))
            cells.append(cell(lambda m, x=x: partial(forward, m, x), pair, given.seconds))
            leaf, gradient = x.clone().requires_grad_(), torch.randn_like(x)
            for module in pair:
                module.train()
            cells.append(
                cell(lambda m, x=leaf, g=gradient: partial(train, m, x, g), pair, given.seconds)
            )
        print(f"{name:14}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
