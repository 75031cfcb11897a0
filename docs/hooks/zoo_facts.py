"""What is measured of a block when the site is built: its cost, what it keeps, how far it sees."""

from __future__ import annotations

import csv
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from shared import DOCS, ROOT

from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.surgery import build_block
from attnzoo.tracing import count

sys.path.insert(0, str(ROOT / "benchmarks"))
from bench_memory import kept_bytes

STUDIES = DOCS / "data" / "studies"
#: Maps as they are in a ResNet-18, a ResNet-50 and a VGG16: channels, height and width.
SIZES = ((64, 56), (256, 56), (512, 14))
#: Channels and side: enough positions for the widest window, enough channels for all groups.
WIDE, DEEP = (64, 41), (256, 9)


@dataclass(frozen=True)
class Cost:
    """Of a block at its default options on one map.

    Attributes:
        parameters: how many.
        macs: of one image.
        kept: what a training step keeps, over the bytes of the map.
    """

    parameters: int
    macs: int
    kept: float


@dataclass(frozen=True)
class Reach:
    """What one value of the output depends on.

    Attributes:
        space: `position`, `window`, `lines` (its row and column) or `map`.
        width: of the window or of the lines, in positions.
        channels: `own`, `some` or `all`.
        many: how many channels.
    """

    space: str
    width: int
    channels: str
    many: int


@dataclass(frozen=True)
class Compared:
    """One comparison of a study with the plain network, or with a control."""

    study: str
    backbone: str
    variant: str
    baseline: str
    seeds: str
    points: str
    verdict: str


@cache
def cost(name: str, channels: int, side: int) -> Cost:
    """Count a block on a map of that size."""
    spec = BLOCKS[name]
    on_meta = build_block(spec, channels, {}, "meta")
    counted = count(on_meta, (torch.empty(1, channels, side, side, device="meta"),), {})
    x = torch.randn(1, channels, side, side, requires_grad=True)
    kept = kept_bytes(spec.build(channels), x) / x.nbytes
    return Cost(sum(p.numel() for p in on_meta.parameters()), counted.macs, kept)


@cache
def reach(name: str) -> Reach:
    """Measure it, by the gradient of a value in the middle of the output."""
    spec, (channels, side) = BLOCKS[name], WIDE
    seen = torch.stack([_depends(spec, channels, side, channel) for channel in (0, 33)])
    space = _space(seen.any(0).any(0))
    channels, side = DEEP
    # Some blocks treat the halves of the channels differently.
    many = max(
        int(_depends(spec, channels, side, channel).flatten(1).any(1).sum()) for channel in (0, 130)
    )
    return Reach(*space, {1: "own", channels: "all"}.get(many, "some"), many)


def _depends(spec: BlockSpec, channels: int, side: int, channel: int) -> torch.Tensor:
    """Which values of the input the middle of one output channel depends on: (C, H, W)."""
    found = torch.zeros(channels, side, side, dtype=torch.bool)
    for seed in range(2):  # a unit that is dead in one draw may not be in another
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = spec.build(channels).double().eval()
            with torch.no_grad():
                for parameter in block.parameters():
                    parameter.normal_(0, 0.2)
            x = torch.rand(1, channels, side, side, dtype=torch.float64, requires_grad=True)
            block(x)[0, channel, side // 2, side // 2].backward()
        assert x.grad is not None
        found |= x.grad[0] != 0
    return found


def _space(seen: torch.Tensor) -> tuple[str, int]:
    """Which positions of a map those are, and how wide."""
    side = len(seen)
    wide = max(int(seen.any(1).sum()), int(seen.any(0).sum()))
    if wide == 1:
        return "position", 1
    if wide < side:
        return "window", wide
    if seen[0, 0] or seen[0, -1]:
        return "map", side
    return "lines", int(seen[0].sum())


def exports(spec: BlockSpec) -> bool:
    """Whether it goes through torch.compile, torch.export and ONNX without a reserve."""
    return not {"compile", "export", "onnx"} & set(spec.limits)


def starts(spec: BlockSpec) -> tuple[str, ...]:
    """The starts that the block has."""
    return ("identity", "neutral", "paper") if spec.neutral else ("identity", "paper")


def needs_options(spec: BlockSpec) -> bool:
    """Whether an option has no default, so that nothing can be counted without one."""
    return inspect.Parameter.empty in spec.options.values()


@cache
def comparisons() -> dict[str, tuple[Compared, ...]]:
    """Block → where the studies in docs/data/studies compared it; empty where there are none."""
    found: dict[str, list[Compared]] = {}
    for folder in sorted(STUDIES.glob("*/")):
        for block, compared in _of_study(folder):
            found.setdefault(block, []).append(compared)
    return {block: tuple(rows) for block, rows in found.items()}


def _of_study(folder: Path) -> Iterator[tuple[str, Compared]]:
    results, compared = folder / "results.csv", folder / "comparisons.csv"
    if not (results.exists() and compared.exists()):
        return
    blocks = {row["variant"]: row["block"] for row in _rows(results)}
    for row in _rows(compared):
        block = blocks.get(row["variant"])
        if not block:
            continue
        points = f"{100 * float(row['mean']):+.1f}"
        if row["low"] and row["high"]:
            points += f" [{100 * float(row['low']):+.1f}, {100 * float(row['high']):+.1f}]"
        yield (
            block,
            Compared(
                folder.name, row["backbone"], row["variant"], row["baseline"],
                row["seeds"], points, row["verdict"],
            ),
        )  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
