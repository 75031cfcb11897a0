"""A trained network in a file that other programs run: ONNX, torch.export, TorchScript."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from timm.layers import AvgPool2dSame, Conv2dSame
from torch import Tensor, nn

from attnzoo.checks import check_choice
from attnzoo.errors import AttnzooError, OptionError, UnsupportedModelError
from attnzoo.train import require
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["FORMATS", "Export", "export"]

SAME = (Conv2dSame, AvgPool2dSame)

Format = Literal["onnx", "pt2", "torchscript"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "torchscript": ".pt"}
TOLERANCE = 1e-3  # of the largest score: others' kernels round otherwise
STRIDE = 32
"""Free sizes are multiples of it. Most networks halve five times, so that every map's size is a
multiple, too; of any size, torch would carry roundings through the whole network, for minutes."""


@dataclass(frozen=True)
class Export:
    """A file that was written, and how it was checked.

    Attributes:
        path: of the file.
        format: of it.
        free: which axes of the input may differ from those of the training: `"batch"`, `"size"`
            (multiples of 32 pixels).
        difference: largest difference of its scores from the model's, on all inputs that were
            tried, over the largest score.
        tried: shapes of these inputs.
    """

    path: Path
    format: Format
    free: tuple[str, ...]
    difference: float
    tried: tuple[tuple[int, ...], ...]


def export(
    network: TrainedNetwork, path: str | os.PathLike[str], format: Format = "onnx"
) -> Export:
    """Write a trained network for other programs, and see that the file computes the same.

    Batch and size of the input are left free where the network allows, else the batch alone, else
    neither. The file is run on inputs of the shapes that it allows, beside the model.

    Args:
        network: from `open_network`.
        path: of the file.
        format: `"onnx"`, `"pt2"` (`torch.export`), or `"torchscript"` (traced).

    Raises:
        OptionError: `path` is a folder.
        MissingExtraError: ONNX is asked for, and its packages are not installed.
        UnsupportedModelError: it cannot be exported so, or computes something else.

    The file is there whole and right, or not at all.
    """
    check_choice("export", "format", format, FORMATS)
    path = Path(path)
    if path.is_dir():
        raise OptionError(f"export: {path} is a folder; name the file to write.")
    model = network.model.cpu().eval().to(memory_format=torch.contiguous_format)
    write = {"onnx": _onnx, "pt2": _pt2, "torchscript": _torchscript}[format]
    partial = path.with_name(f".{path.stem}.partial{SUFFIXES[format]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    try:
        for free in _ways(model, network.shape):
            try:
                with warnings.catch_warnings(action="ignore"), torch.no_grad():
                    run = write(model, partial, network.shape, free)
                    found = _compare(model, run, network.shape, free)
            except (AttnzooError, OSError):
                raise
            except Exception as error:  # exporters raise whatever they come upon
                faults.append(f"{type(error).__name__}: {error}".partition("\n")[0])
                continue
            difference, tried = found
            if difference > TOLERANCE:
                faults.append(f"its scores differ by {difference:.2g} of the largest")
                continue
            os.replace(partial, path)
            return Export(path, format, free, difference, tried)
    finally:
        partial.unlink(missing_ok=True)
    raise UnsupportedModelError(
        f"the network cannot be exported as {format}: {faults[-1]}. Another format may do: "
        f"{', '.join(name for name in FORMATS if name != format)}."
    )


def _ways(model: nn.Module, shape: tuple[int, int, int]) -> tuple[tuple[str, ...], ...]:
    """What to leave free, the most first."""
    ways = (("batch", "size"), ("batch",), ())
    # TensorFlow's padding is worked out from the size at every layer: torch would take minutes to
    # hours to carry that through a network.
    padded = any(isinstance(module, SAME) for module in model.modules())
    return ways[1:] if padded or shape[1] % STRIDE else ways


def _compare(
    model: nn.Module, run: Callable[[Tensor], Tensor], shape: tuple[int, int, int], free: Any
) -> tuple[float, tuple[tuple[int, ...], ...]]:
    channels, side, _ = shape
    shapes = [(1 if not free else 2, *shape)]
    if "batch" in free:
        shapes.append((3, *shape))
    if "size" in free:
        shapes.append((2, channels, side + 2 * STRIDE, side + STRIDE))
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for tried in shapes:
        images = torch.randn(tried, generator=generator)
        wanted, found = model(images), run(images)
        if wanted.shape != found.shape:
            raise ValueError(f"it returns {tuple(found.shape)} for {tried}")
        scale = max(float(wanted.abs().max()), 1e-6)
        worst = max(worst, float((wanted - found).abs().max()) / scale)
    return worst, tuple(shapes)


def _example(shape: tuple[int, int, int], free: Any) -> Tensor:
    # Of one of anything, torch.export would make a constant.
    sides = [max(side, 2 * STRIDE) for side in shape[1:]] if "size" in free else shape[1:]
    return torch.zeros(2 if free else 1, shape[0], *sides)


def _dynamic(free: Any) -> Any:
    if not free:
        return None
    axes: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    if "size" in free:
        axes |= {2: STRIDE * torch.export.Dim("rows"), 3: STRIDE * torch.export.Dim("columns")}
    return (axes,)


def _program(model: nn.Module, shape: tuple[int, int, int], free: Any) -> Any:
    return torch.export.export(model, (_example(shape, free),), dynamic_shapes=_dynamic(free))


def _pt2(
    model: nn.Module, path: Path, shape: tuple[int, int, int], free: Any
) -> Callable[[Tensor], Tensor]:
    path.write_bytes(_in_memory(torch.export.save, _program(model, shape, free)))
    return torch.export.load(path).module()


def _onnx(
    model: nn.Module, path: Path, shape: tuple[int, int, int], free: Any
) -> Callable[[Tensor], Tensor]:
    require("onnxscript", "onnxscript", "export")
    runtime = require("onnxruntime", "onnxruntime", "export")
    program = torch.onnx.export(
        _program(model, shape, free),
        (),
        dynamo=True,
        input_names=["images"],
        output_names=["scores"],
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def _torchscript(
    model: nn.Module, path: Path, shape: tuple[int, int, int], free: Any
) -> Callable[[Tensor], Tensor]:
    program = torch.jit.trace(model, _example(shape, free))
    path.write_bytes(_in_memory(torch.jit.save, program))
    return torch.jit.load(path)


def _in_memory(save: Callable[[Any, io.BytesIO], Any], program: Any) -> bytes:
    """What is saved; where a disk is full, torch would end the process while it writes there."""
    content = io.BytesIO()
    save(program, content)
    return content.getvalue()
