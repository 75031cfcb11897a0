"""Attention on a GPU: plain, compiled, fused; time, bytes and memory, in one run.

    make bench-gpu                                  # all parts, into docs/data/gpu.json
    python benchmarks/bench_gpu.py sites --out x    # one part: sites, blocks, cuts or networks

Every figure is a median. Contenders run in turns within the same minute, on random data, on
buffers that rotate so that what is read was not left in the cache. Attention alone is replayed as
a CUDA graph, so that its time is the GPU's; networks are timed as they are called. A copy of the
same map, in the same run, says how fast the memory is, and every time is also given as the share
of that bandwidth at which the fewest possible bytes would have been moved.

The file is written after every row, and rows of the same machine and day are kept: a run that is
cut off can be continued by the other parts. What fails is written down, and the rest goes on.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import itertools
import json
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks.gated import Gated
from attnzoo.hosts.attention import Attention
from attnzoo.kernels import shapes
from attnzoo.kernels.operators import gated

OUT = Path(__file__).parents[1] / "docs" / "data" / "gpu.json"
BATCH, DTYPE, DEVICE = 64, torch.bfloat16, "cuda"
#: (channels, side) of what VGG16 pools, with 224×224 images.
SITES = [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)]
#: The other blocks that have kernels, each at a shape early and at one late in a network.
BLOCKS = ("se", "eca", "scse", "cbam", "spatial", "simam")
ROUNDS, REPEATS = 15, 10
PARTS = ("sites", "blocks", "cuts", "networks")


@dataclass(frozen=True)
class Job:
    """Something to time: one run of it makes so many calls."""

    run: Callable[[], object]
    calls: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA device here: nothing was measured, and no table was written.")
        return
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    report = Report(asked.out)
    begin = time.perf_counter()
    if "sites" in asked.parts:
        for layout, (channels, side) in itertools.product(("NCHW", "channels_last"), SITES):
            report.add("sites", site, channels, side, layout, "local")
    if "blocks" in asked.parts:
        for name, layout, at in itertools.product(BLOCKS, ("NCHW", "channels_last"), (0, 2)):
            report.add("blocks", site, *SITES[at], layout, name)
    if "cuts" in asked.parts:
        for channels, side in SITES[:4]:
            report.add("cuts", cuts, channels, side)
    if "networks" in asked.parts:
        for name, compiled in itertools.product(("vgg16", "resnet50"), (False, True)):
            report.add("networks", network, name, compiled)
    print(f"{time.perf_counter() - begin:.0f} s; written: {asked.out}")


class Report:
    """The rows, on disk after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {"machine": machine(), **{part: [] for part in PARTS}}
        if path.exists():
            before = json.loads(path.read_text("utf-8"))
            if before["machine"] == self.content["machine"]:
                self.content = before
        print(json.dumps(self.content["machine"], indent=1), flush=True)

    def add(self, part: str, measure: Callable[..., dict[str, Any]], *of: Any) -> None:
        """Measure a row, in the place of an earlier one; or say what went wrong instead."""
        begin = time.perf_counter()
        try:
            row = {"of": list(of), **measure(*of)}
        except Exception as error:
            traceback.print_exc()
            row = {"of": list(of), "error": f"{type(error).__name__}: {error}"[:500]}
        print(f"{part} {json.dumps(row)} ({time.perf_counter() - begin:.0f} s)", flush=True)
        rows = [other for other in self.content[part] if other["of"] != list(of)]
        self.content[part] = [*rows, row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    import triton

    return {
        "device": properties.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "L2 bytes": properties.L2_cache_size,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": sys.version.split()[0],
        "batch": BATCH,
        "dtype": str(DTYPE),
        "command": "make bench-gpu",
    }


# --- one site ------------------------------------------------------------------------------------


def site(channels: int, side: int, layout: str, name: str) -> dict[str, Any]:
    """Attention with γ and the 2×2 maximum behind it, at one shape of VGG16."""
    inputs = maps(channels, side, layout)
    size = inputs[0].numel() * inputs[0].element_size()
    plain = plain_only(attention(channels, name)).eval()
    fused, alone = attention(channels, name).eval(), attention(channels, name).eval()
    alone.pool = None
    for module in (fused, alone):
        module.load_state_dict(plain.state_dict())
    check(plain, fused, inputs[0])
    compiled = torch.compile(plain, dynamic=False)
    target = torch.empty_like(inputs[0])
    contenders = {"plain": plain, "compiled": compiled, "fused": fused}
    others = {"fused, no pool": alone, "copy": target.copy_}
    if name == "local":
        others["fused, one cut"] = with_images(fused, BATCH)
    with torch.no_grad():
        gradient = torch.randn_like(plain(inputs[0]))
        forward = in_turns({k: graphed(run, inputs) for k, run in (contenders | others).items()})
    leaves = [x.requires_grad_() for x in inputs]
    for module in contenders.values():
        module.train()
    kept = {k: kept_bytes(module, leaves[0]) / size for k, module in contenders.items()}
    step = in_turns({k: graphed(trained(run, gradient), leaves) for k, run in contenders.items()})
    bandwidth = 2 * size / forward["copy"]
    # One read and a write of a quarter, or of all where there is no pool; the backward pass reads
    # the map and the gradient of a quarter, and writes one.
    least = dict.fromkeys(forward, 1.25 * size)
    least |= {"fused, no pool": 2 * size, "copy": 2 * size}
    both = dict.fromkeys(step, 3.5 * size)
    return {
        "copy GB/s": round(bandwidth / 1e9),
        "forward ms": milliseconds(forward),
        "forward share": shares(forward, least, bandwidth),
        "step ms": milliseconds(step),
        "step share": shares(step, both, bandwidth),
        "compiled / fused": [ratio(forward), ratio(step)],
        "plain / fused": [ratio(forward, "plain"), ratio(step, "plain")],
        "kept / map": {name: round(value, 3) for name, value in kept.items()},
    }


def ratio(seconds: dict[str, float], name: str = "compiled") -> float:
    return round(seconds[name] / seconds["fused"], 2)


def maps(channels: int, side: int, layout: str) -> list[Tensor]:
    """Random maps, after a ReLU, that together are several times what the cache holds."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    size = BATCH * channels * side * side * DTYPE.itemsize
    count = min(8, max(2, -(-4 * cache // size)))
    wanted = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return [
        torch.randn(BATCH, channels, side, side, device=DEVICE, dtype=DTYPE)
        .relu_()
        .contiguous(memory_format=wanted)
        for _ in range(count)
    ]


def attention(channels: int, name: str = "local") -> Attention:
    """With γ as after some training, and its pool."""
    module = Attention(attnzoo.create_block(name, channels), name, channels)
    nn.init.uniform_(module.gamma, 0.2, 0.8)
    module.pool = nn.MaxPool2d(2)
    return module.to(DEVICE, DTYPE)


def plain_only(module: nn.Module) -> nn.Module:
    """The plain formula: a class that derives from a block is not given to the kernels."""
    for block in module.modules():
        if isinstance(block, Gated):
            block.__class__ = without_kernels(type(block))
    return module


@functools.cache
def without_kernels(cls: type[Gated]) -> type[Gated]:
    return type(f"Plain{cls.__name__}", (cls,), {})


def check(plain: nn.Module, fused: nn.Module, x: Tensor) -> None:
    """The contenders compute the same, and only one of them by the kernels."""
    with torch.no_grad():
        expected, found = plain(x[:2]).double(), fused(x[:2]).double()
        error = ((found - expected).norm() / expected.norm()).item()
        assert error < 0.03, f"fused differs from plain by {error:.3f} of the norm"
        assert fused.block.fused(x[:2]) is not None, "the kernels do not run"
        assert plain.block.fused(x[:2]) is None, "the kernels run in the plain formula"


def with_images(module: Attention, images: int) -> Callable[[Tensor], Tensor]:
    """The operator itself, with so many images in a cut; 0 for what it chooses."""
    weights = [t for layer in module.block.layers() for t in (layer.weight, layer.bias)]
    return lambda x: gated(x, weights, module.gamma, "local", "max", False, images, False, 1.0)[0]


def trained(module: nn.Module, gradient: Tensor) -> Callable[[Tensor], None]:
    def run(x: Tensor) -> None:
        x.grad = None
        module.zero_grad(set_to_none=True)
        module(x).backward(gradient)

    return run


def cuts(channels: int, side: int) -> dict[str, Any]:
    """How the forward pass depends on the number of images in a cut: whether the cache serves."""
    inputs, module = maps(channels, side, "NCHW"), attention(channels)
    with torch.no_grad():
        seconds = in_turns(
            {
                str(images): graphed(with_images(module, images), inputs)
                for images in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
            }
        )
    return {"chosen": shapes.images_per_cut(inputs[0]), "ms": milliseconds(seconds)}


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Memory after the forward pass, the result left out: what waits for the backward pass."""
    module(x)
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    y = module(x)
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated() - before - y.numel() * y.element_size()


# --- whole networks ------------------------------------------------------------------------------


def network(name: str, compiled: bool) -> dict[str, Any]:
    """Without attention, with it as a formula, and fused: the forward pass and a training step."""
    build = getattr(torchvision.models, name)
    policy = "pre-pool" if name == "vgg16" else "in-residual"
    models: dict[str, nn.Module] = {
        "without attention": build(),
        "formula": plain_only(attnzoo.wrap(build(), policy, "local")),
        "fused": attnzoo.wrap(build(), policy, "local"),
    }
    x = torch.randn(BATCH, 3, 224, 224, device="cuda", dtype=DTYPE)
    x = x.contiguous(memory_format=torch.channels_last)
    runs: dict[str, Callable[[], object]] = {}
    for contender, model in models.items():
        model = model.to("cuda", DTYPE).to(memory_format=torch.channels_last)
        model = attnzoo.fuse(model) if contender == "fused" else model
        models[contender] = torch.compile(model, dynamic=False) if compiled else model
    row: dict[str, Any] = {"policy": policy, "block": "local"}
    for part, train in (("forward", False), ("step", True)):
        runs = {
            contender: stepped(model.train(), x) if train else inferred(model.eval(), x)
            for contender, model in models.items()
        }
        seconds = in_turns({contender: Job(run) for contender, run in runs.items()}, repeats=4)
        row[f"{part} ms"] = milliseconds(seconds)
        row[f"{part} / without"] = {
            contender: round(seconds[contender] / seconds["without attention"], 4)
            for contender in ("formula", "fused")
        }
        for model in models.values():
            model.zero_grad(set_to_none=True)
    return row


def inferred(model: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            model(x)

    return run


def stepped(model: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(x).float().square().mean().backward()

    return run


# --- timing --------------------------------------------------------------------------------------


def graphed(function: Callable[[Tensor], object], inputs: list[Tensor]) -> Job:
    """The function on every input in turn, replayed as a CUDA graph; as called if that fails."""

    def run() -> None:
        for x in inputs:
            function(x)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # where a backward pass must have run before it is captured
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except Exception as error:
        print(f"not captured, so timed as called: {error}", flush=True)
        torch.cuda.synchronize()
        return Job(run, len(inputs))
    return Job(graph.replay, len(inputs))


def in_turns(jobs: dict[str, Job], repeats: int = REPEATS) -> dict[str, float]:
    """Seconds of one call of each, medians over rounds, taken in turns."""
    for job in jobs.values():
        for _ in range(2):
            job.run()
    torch.cuda.synchronize()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            job = jobs[name]
            times = max(1, repeats // job.calls)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(times):
                job.run()
            end.record()
            end.synchronize()
            seconds[name].append(begin.elapsed_time(end) / 1e3 / times / job.calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value * 1e3, 4) for name, value in seconds.items()}


def shares(
    seconds: dict[str, float], least: dict[str, float], bandwidth: float
) -> dict[str, float]:
    """Of the bandwidth of a copy, if only the fewest possible bytes were moved."""
    return {name: round(least[name] / taken / bandwidth, 3) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
