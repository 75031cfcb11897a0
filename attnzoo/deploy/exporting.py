"""Writing a file, running it beside the model, and keeping it only if both compute the same."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from attnzoo.checks import check_choice
from attnzoo.deploy.formats import FORMATS, SUFFIXES, WRITERS, Format
from attnzoo.deploy.runtimes import OnExecuTorch, Run
from attnzoo.deploy.subject import Free, Subject, subject_of
from attnzoo.errors import AttnzooError, OptionError, UnsupportedModelError
from attnzoo.hosts import Attention, check_module
from attnzoo.registry import BLOCKS

__all__ = ["Export", "export"]

TOLERANCE = 1e-3  # of the largest output: others' kernels round otherwise

#: Format → the packages whose versions are told.
_PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "onnx-legacy": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "litert": ("litert-torch", "ai-edge-litert"),
    "coreml": ("coremltools",),
    "ncnn": ("pnnx", "ncnn"),
}


@dataclass(frozen=True)
class Export:
    """A file that was written, and how it was checked.

    Attributes:
        path: of the file.
        format: of it.
        free: which axes of the input may differ from the example's: `"batch"`, `"size"`
            (multiples of 32 pixels).
        difference: largest difference of its outputs from the model's, on all inputs that were
            tried, over the largest output; None where it can't be run on this machine.
        tried: shapes of these inputs.
        versions: package → version, of what wrote and ran it.
        delegates: in how many pieces XNNPACK takes it on ExecuTorch, 1 is best; None elsewhere.
    """

    path: Path
    format: Format
    free: Free
    difference: float | None
    tried: tuple[tuple[int, ...], ...]
    versions: dict[str, str]
    delegates: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the file beside the file."""
        return {
            "file": self.path.name,
            "format": self.format,
            "free": list(self.free),
            "difference": self.difference,
            "tolerance": TOLERANCE,
            "tried": [list(shape) for shape in self.tried],
            "versions": self.versions,
            **({} if self.delegates is None else {"delegates": self.delegates}),
        }


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    format: Format = "onnx",
    example: Any = None,
    *,
    legacy: bool = False,
) -> Export:
    """Write a model for other programs, and see that the file computes the same.

    Batch and size of the input are left free where the network and the format allow, else one of
    them, else neither. The file is run beside the model on the example, and on other batches and
    sizes where they are free. What was checked is written beside it, `<name>.json`.

    Args:
        model: wrapped or plain, compiled or parallel; a copy of it is exported, on the CPU and in
            eval mode.
        path: of the file. OpenVINO and ncnn put a second one, `.bin`, beside it; what Core ML makes
            is a folder.
        format: `"onnx"`, `"pt2"` (`torch.export`), `"torchscript"` (traced); with extras of the
            same names `"openvino"`, `"executorch"` (XNNPACK), `"litert"` (TensorFlow Lite),
            `"coreml"`, `"ncnn"`.
        example: what the network takes, as for `wrap`; None for what attention was put in with, or
            the network's default.
        legacy: ONNX by the exporter before `torch.export`, for tools that need such files.

    Raises:
        OptionError: `path` is a folder, or `format` unknown.
        MissingExtraError: the packages of the format are not installed.
        UnsupportedModelError: it cannot be exported so, or computes something else.

    The file is there whole and right, or not at all.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")
        >>> done = attnzoo.export(model, "network.pt", "torchscript", example=(3, 64, 64))
        >>> done.free, done.difference < 1e-3
        (('batch', 'size'), True)
    """
    check_module(model)
    check_choice("export", "format", format, FORMATS)
    path = Path(path)
    if path.is_dir() and format != "coreml":
        raise OptionError(f"export: {path} is a folder; name the file to write.")
    if legacy and format != "onnx":
        raise OptionError("export: legacy=True is for format='onnx'.")
    kind: Format = "onnx-legacy" if legacy else format
    subject = subject_of(model, example)
    _refuse_limited(model, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    for free in subject.ways():
        with _folder_beside(path) as folder:
            written = folder / f"network{SUFFIXES[kind]}"
            try:
                with warnings.catch_warnings(action="ignore"), torch.no_grad():
                    run = WRITERS[kind](subject, written, free)
                    difference, tried = _compare(subject, run, free)
            except (AttnzooError, OSError):
                raise
            except Exception as error:  # exporters raise whatever they come upon
                faults.append(f"{type(error).__name__}: {error}".partition("\n")[0])
                continue
            if difference is not None and not difference <= TOLERANCE:
                faults.append(f"its scores differ by {difference:.2g} of the largest")
                continue
            pieces = run.delegates if isinstance(run, OnExecuTorch) else None
            done = Export(path, kind, free, difference, tried, _versions(kind), pieces)
            _keep(folder, written, done)
            return done
    others = ", ".join(name for name in FORMATS if name != kind)
    raise UnsupportedModelError(
        f"the network cannot be exported as {kind}: {faults[-1]}. Another format may do: {others}."
    )


def _refuse_limited(model: nn.Module, format: Format) -> None:
    """Refuse blocks that are known to come out wrong."""
    for path, module in model.named_modules():
        if isinstance(module, Attention) and module.enabled and module.name in BLOCKS:
            why = BLOCKS[module.name].limits.get(cast("Any", format))
            if why:
                raise UnsupportedModelError(
                    f"block {module.name!r} at {path!r} can't be exported as {format}: {why} "
                    f"`attnzoo blocks {module.name}` lists its limits."
                )


def _compare(
    subject: Subject, run: Run | None, free: Free
) -> tuple[float | None, tuple[tuple[int, ...], ...]]:
    if run is None:
        return None, ()
    worst, shapes = 0.0, []
    for inputs in subject.tried(free):
        wanted, found = subject.outputs(inputs), run(inputs)
        shapes.append(tuple(inputs[0].shape))
        if [one.shape for one in wanted] != [one.shape for one in found]:
            returned = ", ".join(str(tuple(one.shape)) for one in found)
            raise ValueError(f"it returns {returned} for {shapes[-1]}")
        worst = max([worst, *map(_difference, wanted, found)])
    return worst, tuple(shapes)


def _difference(wanted: Tensor, found: Tensor) -> float:
    if not wanted.numel():
        return 0.0
    wanted, found = wanted.double(), found.double()
    scale = max(float(wanted.abs().max()), 1e-6)
    off = float((wanted - found).abs().max()) / scale
    return off if off == off else float("inf")  # NaN: it is in one of them alone


def _versions(format: Format) -> dict[str, str]:
    found = {}
    for package in ("torch", "attnzoo", *_PACKAGES.get(format, ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def _folder_beside(path: Path) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", suffix=".partial", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path, written: Path, done: Export) -> None:
    """Move what was written to its name: what goes with the file first, the file last."""
    record = folder / "record.json"
    record.write_text(json.dumps(done.to_dict(), indent=2) + "\n", encoding="utf-8")
    weights = written.with_suffix(".bin")
    if weights.is_file():
        os.replace(weights, done.path.with_suffix(".bin"))
    if written.is_dir() and done.path.is_dir():
        shutil.rmtree(done.path)
    os.replace(record, done.path.with_name(f"{done.path.name}.json"))
    os.replace(written, done.path)
