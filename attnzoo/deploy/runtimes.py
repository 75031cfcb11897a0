"""The formats of other programs: OpenVINO, ExecuTorch, LiteRT, Core ML, ncnn.

Each comes with an extra of its name, and is loaded when it is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnzoo.deploy.subject import Free, Subject
from attnzoo.deploy.xnnpack import REWRITTEN
from attnzoo.train import require

__all__ = [
    "OnExecuTorch",
    "Run",
    "coreml",
    "executorch",
    "litert",
    "ncnn",
    "openvino",
    "program_of",
]

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""Inputs → outputs of a file."""


def program_of(subject: Subject, free: Free) -> Any:
    """What `torch.export` makes of a model."""
    dynamic = subject.dynamic(free)
    return torch.export.export(subject.model, subject.example(free), dynamic_shapes=dynamic)


def openvino(subject: Subject, path: Path, free: Free) -> Run:
    """`.xml` and `.bin`, in float32: by default OpenVINO would round the weights to float16."""
    tool = require("openvino", "OpenVINO", "openvino")
    tool.save_model(tool.convert_model(program_of(subject, free)), path, compress_to_fp16=False)
    how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = tool.Core().compile_model(str(path), "CPU", how)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        made = compiled([x.numpy() for x in inputs])
        return [torch.from_numpy(made[i].copy()) for i in range(len(compiled.outputs))]

    return run


def executorch(subject: Subject, path: Path, free: Free) -> Run:
    """`.pte`, with what XNNPACK takes handed to it. The shapes are those of the example."""
    runtime = _executorch("runtime").Runtime.get()
    if free:
        raise ValueError("its memory is planned for one shape")
    parts = _executorch("backends.xnnpack.partition.xnnpack_partitioner")
    lower = _executorch("exir").to_edge_transform_and_lower
    folded = _executorch("exir.passes.constant_prop_pass").constant_prop_pass
    program = folded(program_of(subject, ()).run_decompositions(REWRITTEN))
    made = lower(program, partitioner=[parts.XnnpackPartitioner()])
    nodes = made.exported_program().graph.nodes
    count = sum("call_delegate" in str(node.target) for node in nodes)
    path.write_bytes(made.to_executorch().buffer)
    return OnExecuTorch(runtime.load_program(path).load_method("forward"), count)


class OnExecuTorch:
    """What runs a `.pte` file.

    Args:
        method: of the loaded program.
        delegates: in how many pieces XNNPACK has it; 1 is best.
    """

    def __init__(self, method: Any, delegates: int) -> None:
        self.method = method
        self.delegates = delegates

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [made.clone() for made in self.method.execute([x.contiguous() for x in inputs])]


def _executorch(module: str) -> Any:
    return require(f"executorch.{module}", "ExecuTorch", "executorch")


def litert(subject: Subject, path: Path, free: Free) -> Run:
    """`.tflite`. The shapes are those of the example."""
    tool = require("litert_torch", "litert-torch", "litert")
    runtime = require("ai_edge_litert.interpreter", "ai-edge-litert", "litert")
    if free:
        raise ValueError("its shapes are fixed")
    tool.convert(subject.model, subject.inputs).export(str(path))
    interpreter = runtime.Interpreter(model_path=str(path))
    signature = interpreter.get_signature_runner()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        names = signature.get_input_details()
        made = signature(**{name: x.numpy() for name, x in zip(names, inputs, strict=True)})
        return [torch.from_numpy(made[name].copy()) for name in sorted(made)]

    return run


def coreml(subject: Subject, path: Path, free: Free) -> Run | None:
    """`.mlpackage`. Its programs run on macOS alone; elsewhere it is only converted."""
    tool = require("coremltools", "coremltools", "coreml")
    if free:
        raise ValueError("its shapes are fixed")
    program = program_of(subject, ()).run_decompositions({})
    mac = sys.platform == "darwin"
    exact = tool.precision.FLOAT32
    made = tool.convert(
        program, convert_to="mlprogram", compute_precision=exact, skip_model_load=not mac
    )
    made.save(str(path))
    if not mac:
        return None
    names = list(made.input_description)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(one) for one in made.predict(fed).values()]

    return run


def ncnn(subject: Subject, path: Path, free: Free) -> Run:
    """`.param` and `.bin`, by pnnx. ncnn knows no batch: it takes one image."""
    tool = require("ncnn", "ncnn", "ncnn")
    require("pnnx", "pnnx", "ncnn")
    if "batch" in free or any(len(x) != 1 for x in subject.inputs):
        raise ValueError("ncnn takes one image, and no batch: export with an example of one")
    weights, script = path.with_suffix(".bin"), path.with_suffix(".pt")
    traced = torch.jit.trace(subject.model, subject.example(free))
    traced.save(str(script))
    shapes = [subject.example(free)]
    shapes += [subject.tried(free)[-1]] if "size" in free else []
    given = [f"[{','.join(map(str, x.shape))}]" for x in shapes[0]]
    other = [f"[{','.join(map(str, x.shape))}]" for x in shapes[-1]]
    _pnnx(script, path, weights, given, other if len(shapes) > 1 else [])
    network = tool.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = False
    network.opt.num_threads = torch.get_num_threads()
    network.opt.use_fp16_arithmetic = network.opt.use_bf16_storage = False
    if network.load_param(str(path)) or network.load_model(str(weights)):
        raise ValueError(f"ncnn does not load what pnnx made: {_strange(path)}")

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with network.create_extractor() as extractor:
            for name, x in zip(network.input_names(), inputs, strict=True):
                extractor.input(name, tool.Mat(x[0].numpy()).clone())
            made = []
            for name in network.output_names():
                failed, mat = extractor.extract(name)
                if failed:
                    raise ValueError(f"ncnn returns {failed} for output {name!r}")
                made.append(torch.from_numpy(mat.numpy().copy()).unsqueeze(0))
        return made

    return run


def _pnnx(
    script: Path, path: Path, weights: Path, shapes: Sequence[str], other: Sequence[str]
) -> None:
    import subprocess

    found = importlib.util.find_spec("pnnx")
    home = Path(found.origin).parent if found and found.origin else Path()
    name = "pnnx.exe" if os.name == "nt" else "pnnx"
    # Its own program first: the script of that name loads torch before it starts it.
    places = [home / name, home / "bin" / name, Path(sysconfig.get_path("scripts")) / name]
    program = next((str(place) for place in places if place.is_file()), name)
    command = [program, script.name, f"inputshape={','.join(shapes)}", "fp16=0"]
    command += [f"inputshape2={','.join(other)}"] if other else []
    command += [f"ncnnparam={path.name}", f"ncnnbin={weights.name}"]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True)
    if done.returncode or not path.is_file():
        raise ValueError(f"pnnx failed: {(done.stderr or done.stdout).strip()[-200:]}")
    script.unlink()


def _strange(path: Path) -> str:
    """Layers in a `.param` file that ncnn does not have."""
    lines = path.read_text("utf-8").splitlines()[2:]
    kinds = {line.split()[0] for line in lines if line.split()}
    return ", ".join(sorted(kind for kind in kinds if "." in kind or "::" in kind)) or "?"
