"""Every block through the tools that people deploy with: right, wrong or refused, into a table.

    python benchmarks/toolchains.py [--tools NAME ...] [--blocks NAME ...] [--small] [--missing]
                                    [--out FILE]

A small network holds a block four times, once by each mechanism, moved away from its start, its γ
open. What a tool makes of it is compared with the model on the example and, where the file takes
them, on other batches and sizes. Where it is not right, each mechanism is tried alone. On
ExecuTorch, a ResNet-18 with each of the commonest blocks goes through, too. Tools that are not
installed are left out, and their rows stay as they are: so one that asks for another torch, as
LiteRT does, is run from an environment of its own, `--tools litert`, into the same table.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, resnet18

import attnzoo
from attnzoo.deploy.formats import SUFFIXES, WRITERS
from attnzoo.deploy.subject import Subject, subject_of
from attnzoo.errors import MissingExtraError
from attnzoo.hosts import Attention
from attnzoo.registry import BLOCKS

RIGHT = 1e-4
SIZE = (3, 64, 64)
MECHANISMS = {"slot": "slot.bn2", "insert": "insert.act", "hook": "hook", "wrap": "wrap"}
FIELDS = ("block", "tool", "mechanism", "outcome", "difference", "free", "delegates", "detail")
TOOLS = {
    "onnx": ("onnxruntime", "onnxscript"),
    "onnx-legacy": ("onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "litert": ("litert-torch",),
    "coreml": ("coremltools",),
    "ncnn": ("ncnn", "pnnx"),
    "opencv": ("opencv-python-headless",),
    "opencv-classic": ("opencv-python-headless",),
}
#: Blocks that XNNPACK is to take whole; on ExecuTorch they are tried in a ResNet-18 as well.
WHOLE = ("(plain)", "se", "local", "eca", "cbam", "simam", "coord")
OUT = Path(__file__).parents[1] / "docs" / "data" / "toolchains.csv"


class Composite(nn.Module):
    """A part that is no sequence."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) * self.scale + x)


class Small(nn.Module):
    """A network with a place for each mechanism."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels))
        self.slot = BasicBlock(channels, channels)
        self.insert = nn.Sequential()
        self.insert.add_module("conv", nn.Conv2d(channels, channels, 3, 2, 1))
        self.insert.add_module("act", nn.ReLU())
        self.hook = Composite(channels)
        self.wrap = nn.Conv2d(channels, channels, 1)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hook(self.insert(self.slot(self.stem(x).relu())))
        return self.head(self.wrap(x).relu().mean((2, 3)))


def network(block: str, mechanisms: Sequence[str]) -> nn.Module:
    """The network with a block by some mechanisms, or the plain one."""
    torch.manual_seed(0)
    model = Small()
    if block != "(plain)":
        where = ("match", {"pattern": [MECHANISMS[name] for name in mechanisms]})
        attnzoo.wrap(model, where, block, example=SIZE)
        found = list(_mechanisms(model))
        assert sorted(found) == sorted(mechanisms), found
    return moved(model)


def resnet(block: str) -> nn.Module:
    """ResNet-18 of torchvision with a block behind each residual sum, or the plain one."""
    torch.manual_seed(0)
    model = resnet18()
    return moved(model if block == "(plain)" else attnzoo.wrap(model, "auto", block, example=SIZE))


def moved(model: nn.Module) -> nn.Module:
    """The model in eval mode, its norms and attention away from their start, every γ at 0.7."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            if isinstance(module, Attention):
                for name, parameter in module.named_parameters():
                    if name == "gamma":
                        parameter.fill_(0.7)
                    else:
                        shift = torch.randn(parameter.shape, generator=generator)
                        parameter.add_(shift, alpha=0.1)
    return model.eval()


def _mechanisms(model: nn.Module) -> Iterator[str]:
    for path in attnzoo.attention_modules(model):
        place = path.rpartition(".")[0]
        yield place.partition(".")[0]


#: Model → its ONNX file, which both engines read.
_ONNX: dict[str, bytes] = {}


def opencv(subject: Subject, path: Path, free: Any, *, classic: bool = False) -> Any:
    """What OpenCV's dnn makes of the ONNX file of the new exporter."""
    import cv2

    if free:
        raise ValueError("its shapes are fixed")
    key = fingerprint(subject.model)
    if key not in _ONNX:
        WRITERS["onnx"](subject, path, free)
        _ONNX[key] = path.read_bytes()
    path.write_bytes(_ONNX[key])
    engine = cv2.dnn.ENGINE_CLASSIC if classic else cv2.dnn.ENGINE_AUTO
    net = cv2.dnn.readNetFromONNX(str(path), engine)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        net.setInput(inputs[0].numpy())
        return [torch.from_numpy(net.forward().copy())]

    return run


def fingerprint(model: nn.Module) -> str:
    """What a model is: its modules and its numbers."""
    told = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        told.update(name.encode() + value.numpy().tobytes())
    return told.hexdigest()


def images(tool: str) -> Tensor:
    """Two of them; ncnn takes one."""
    return torch.randn(
        1 if tool == "ncnn" else 2, *SIZE, generator=torch.Generator().manual_seed(2)
    )


def writer(tool: str) -> tuple[Callable[..., Any], str]:
    if tool.startswith("opencv"):
        return (lambda *args: opencv(*args, classic=tool.endswith("classic"))), ".onnx"
    return WRITERS[tool], SUFFIXES[tool]  # ty: ignore[invalid-argument-type]


def tried(subject: Subject, free: Sequence[str]) -> list[tuple[Tensor, ...]]:
    """What `export` tries, and three more sizes where they are free."""
    found = subject.tried(tuple(free))
    generator = torch.Generator().manual_seed(5)
    if "size" in free:
        batch = 4 if "batch" in free else 1
        for rows, columns in ((96, 96), (32, 128), (160, 64)):
            found.append((torch.randn(batch, 3, rows, columns, generator=generator),))
    return found


def outcome(tool: str, model: nn.Module) -> dict[str, Any]:
    """One conversion, with as much left free as the tool takes."""
    write, suffix = writer(tool)
    subject = subject_of(model, images(tool))
    row: dict[str, Any] = {"outcome": "refused", "difference": "", "free": "", "detail": ""}
    for free in subject.ways():
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            try:
                run = write(subject, Path(folder) / f"network{suffix}", free)
                if run is None:
                    return row | {"outcome": "converted", "detail": ""}
                row["delegates"] = getattr(run, "delegates", "")
                worst = max(off(subject, run, inputs) for inputs in tried(subject, free))
            except MissingExtraError:
                raise
            except Exception as error:
                said = str(error).strip().splitlines() or [""]
                useful = next((line for line in said if len(line.split()) > 2), said[0])
                row["detail"] = row["detail"] if free else ""
                row |= {"outcome": "refused", "detail": f"{type(error).__name__}: {useful[:150]}"}
                continue
        right = worst <= RIGHT
        row |= {"outcome": "right" if right else "wrong", "difference": f"{worst:.1e}"}
        row |= {"free": "+".join(free), "detail": ""}
        if right:
            return row
    return row


def off(subject: Subject, run: Any, inputs: tuple[Tensor, ...]) -> float:
    """The largest difference over the spread of the outputs."""
    (wanted,), (found,) = subject.outputs(inputs), run(inputs)
    if wanted.shape != found.shape:
        raise ValueError(f"it returns the shape {tuple(found.shape)}")
    return float((wanted - found).abs().max() / wanted.std().clamp_min(1e-6))


def rows_of(tool: str, block: str, *, whole: bool = True) -> Iterator[dict[str, Any]]:
    every = list(MECHANISMS)
    told = {"block": block, "tool": tool}
    row = told | {"mechanism": "all"} | outcome(tool, network(block, every))
    why = BLOCKS[block].limits.get(tool) if block in BLOCKS else None
    if why and row["outcome"] in ("wrong", "refused"):
        row |= {"detail": why}
    elif why:
        row |= {"detail": "A limit is declared that is none."}
    yield row
    if row["outcome"] in ("wrong", "refused") and block != "(plain)":
        alone = [outcome(tool, network(block, [name])) for name in every]
        if len({one["outcome"] for one in alone} | {row["outcome"]}) > 1:  # the mechanism matters
            for name, one in zip(every, alone, strict=True):
                yield told | {"mechanism": name} | one
    if whole and tool == "executorch" and block in WHOLE:
        yield told | {"mechanism": "resnet18"} | outcome(tool, resnet(block))


def versions(tool: str) -> str:
    found = [f"torch {torch.__version__.partition('+')[0]}"]
    for package in TOOLS[tool]:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--blocks", nargs="+", default=["(plain)", *sorted(s.name for s in BLOCKS)])
    parser.add_argument("--small", action="store_true", help="leave the rows of ResNet-18 alone")
    parser.add_argument("--missing", action="store_true", help="leave what has a row already")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    if asked.out and asked.out.is_file():
        with asked.out.open(encoding="utf-8", newline="") as file:
            kept = {(r["tool"], r["block"], r["mechanism"]): r for r in csv.DictReader(file)}
    for tool in asked.tools:
        try:
            for block in asked.blocks:
                if asked.missing and (tool, block, "all") in kept:
                    continue
                with silenced():
                    rows = list(rows_of(tool, block, whole=not asked.small))
                old = [key for key in kept if key[:2] == (tool, block)]
                for key in old:
                    if not (asked.small and key[2] == "resnet18"):
                        del kept[key]
                for row in rows:
                    row["versions"] = versions(tool)
                    kept[tool, block, row["mechanism"]] = row
                    shown = [row["mechanism"], row["outcome"], row["difference"], row["free"]]
                    more = [row.get("delegates", ""), row["detail"]]
                    print(f"{tool:14} {block:14}", *shown, *more, flush=True)
                if asked.out:
                    save(asked.out, kept)
        except MissingExtraError as error:
            print(f"{tool}: {error}")


def save(path: Path, kept: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    order = list(TOOLS)
    rows = sorted(kept.values(), key=lambda r: (order.index(r["tool"]), r["block"], r["mechanism"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*FIELDS, "versions"], restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


class silenced:  # noqa: N801  # a context, named as those of contextlib
    """What tools print from C++ goes nowhere."""

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.kept = [os.dup(1), os.dup(2)]
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)

    def __exit__(self, *error: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), self.kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


if __name__ == "__main__":
    main()
