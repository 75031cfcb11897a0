"""Which converters take networks with attention, with every start, and compute the same.

    pip install 'attnzoo[export]' openvino coremltools
    python benchmarks/converters.py [BLOCK ...]

ONNX (ONNX Runtime) and OpenVINO run what was converted; Core ML's programs run on a Mac alone, so
elsewhere only the conversion is tried. A converter that is not installed is left out.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.hosts import Attention
from attnzoo.registry import BLOCKS

BLOCKS_TRIED = ("se", "local", "eca", "cbam")
SIZE = (3, 32, 32)


def network(block: str, start: str) -> nn.Module:
    """Convolutions with attention in between that has moved away from its start."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    more = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    attnzoo.wrap(model, "pre-pool", block, start=start, example=SIZE)
    with torch.no_grad():
        for attention in model.modules():
            if isinstance(attention, Attention):
                for parameter in attention.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def onnx(model: nn.Module, x: Tensor) -> Tensor:
    import onnxruntime

    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def openvino(model: nn.Module, x: Tensor) -> Tensor:
    import openvino

    converted = openvino.convert_model(torch.export.export(model, (x,)))
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled(x.numpy())[0])


def coreml(model: nn.Module, x: Tensor) -> Tensor | None:
    import coremltools

    program = torch.export.export(model, (x,)).run_decompositions({})
    made = coremltools.convert(program, convert_to="mlprogram", skip_model_load=True)
    if sys.platform != "darwin":
        return None
    (name,) = made.input_description
    (result,) = made.predict({name: x.numpy()}).values()
    return torch.from_numpy(result)


CONVERTERS: dict[str, tuple[str, Callable[[nn.Module, Tensor], Tensor | None]]] = {
    "ONNX Runtime": ("onnxruntime", onnx),
    "OpenVINO": ("openvino", openvino),
    "Core ML": ("coremltools", coreml),
}


def outcome(convert: Callable[[nn.Module, Tensor], Tensor | None], block: str, start: str) -> str:
    model, x = network(block, start), torch.randn(2, *SIZE)
    with torch.no_grad():
        expected = model(x)
    try:
        found = convert(model, x)
    except Exception as error:
        return f"refused: {type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
    if found is None:
        return "converted"
    close = torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
    return "the same" if close else f"off by {(found - expected).abs().max():.2g}"


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"torch {torch.__version__}")
    for title, (package, convert) in CONVERTERS.items():
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"{title}: {package} is not installed")
            continue
        print(f"{title}: {package} {version(package)}")
        for block in sys.argv[1:] or BLOCKS_TRIED:
            starts = (
                ("identity", "neutral", "paper") if BLOCKS[block].neutral else ("identity", "paper")
            )
            said = {start: outcome(convert, block, start) for start in starts}
            print(f"  {block:14}" + ", ".join(f"{start}: {text}" for start, text in said.items()))


if __name__ == "__main__":
    main()
