"""The formats of PyTorch and ONNX: written from a model, and run."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from attnzoo.deploy import runtimes
from attnzoo.deploy.runtimes import Run, program_of
from attnzoo.deploy.subject import Free, Subject
from attnzoo.train import require

__all__ = ["FORMATS", "SUFFIXES", "WRITERS", "Format", "Writer"]

Format = Literal[
    "onnx",
    "onnx-legacy",
    "pt2",
    "torchscript",
    "openvino",
    "executorch",
    "litert",
    "coreml",
    "ncnn",
]
FORMATS: tuple[Format, ...] = get_args(Format)

SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "onnx-legacy": ".onnx",
    "pt2": ".pt2",
    "torchscript": ".pt",
    "openvino": ".xml",
    "executorch": ".pte",
    "litert": ".tflite",
    "coreml": ".mlpackage",
    "ncnn": ".param",
}

#: Writes a file and returns what runs it, or None where only another machine can.
Writer = Callable[[Subject, Path, Free], Run | None]


def _pt2(subject: Subject, path: Path, free: Free) -> Run:
    path.write_bytes(_in_memory(torch.export.save, program_of(subject, free)))
    return _run_module(torch.export.load(path).module())


def _onnx(subject: Subject, path: Path, free: Free) -> Run:
    require("onnxscript", "onnxscript", "export")
    names = _names(subject)
    program = torch.onnx.export(
        program_of(subject, free),
        (),
        dynamo=True,
        input_names=names,
        output_names=_outputs(subject),
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)
    return _run_onnx(path)


def _legacy_onnx(subject: Subject, path: Path, free: Free) -> Run:
    require("onnx", "onnx", "export")
    axes = {0: "batch"} if "batch" in free else {}
    axes |= {2: "rows", 3: "columns"} if "size" in free else {}
    torch.onnx.export(
        subject.model,
        subject.example(free),
        str(path),
        dynamo=False,
        input_names=_names(subject),
        output_names=_outputs(subject),
        dynamic_axes=dict.fromkeys(_names(subject), axes) if axes else None,
    )
    return _run_onnx(path)


def _run_onnx(path: Path) -> Run:
    runtime = require("onnxruntime", "onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(made) for made in session.run(None, fed)]

    return run


def _torchscript(subject: Subject, path: Path, free: Free) -> Run:
    program = torch.jit.trace(subject.model, subject.example(free))
    path.write_bytes(_in_memory(torch.jit.save, program))
    return _run_module(torch.jit.load(path))


def _run_module(module: Any) -> Run:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        made = module(*inputs)
        return [made] if isinstance(made, Tensor) else list(made)

    return run


def _names(subject: Subject) -> list[str]:
    count = len(subject.inputs)
    return ["images"] if count == 1 else [f"input_{i}" for i in range(count)]


def _outputs(subject: Subject) -> list[str]:
    count = len(subject.outputs(subject.inputs))
    return ["scores"] if count == 1 else [f"output_{i}" for i in range(count)]


def _in_memory(save: Callable[[Any, io.BytesIO], Any], program: Any) -> bytes:
    """What is saved; where a disk is full, torch would end the process while it writes there."""
    content = io.BytesIO()
    save(program, content)
    return content.getvalue()


WRITERS: dict[Format, Writer] = {
    "onnx": _onnx,
    "onnx-legacy": _legacy_onnx,
    "pt2": _pt2,
    "torchscript": _torchscript,
    "openvino": runtimes.openvino,
    "executorch": runtimes.executorch,
    "litert": runtimes.litert,
    "coreml": runtimes.coreml,
    "ncnn": runtimes.ncnn,
}
