"""What is left of a network with attention in 8 bits: ONNX Runtime and PT2E (XNNPACK).

    python benchmarks/quantized.py [--blocks NAME ...] [--tools NAME ...] [--out FILE]

torchvision's ResNet-18 on cluttered digits, twice. Trained for some epochs, attention from the
neutral start, whose gates are open all the time; and with random weights, attention moved away from
its start, γ open, and BatchNorm's statistics those of the images. Calibrated on some images, it is
compared on others: the cosine of all scores to the float network's, as they are and with each
class's mean taken off, which all images share. The plain network goes through the same run.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from toolchains import moved
from torch import Tensor, nn

import attnzoo
from attnzoo.train import ClutteredDigits, DigitsData, TrainRecipe, fit, open_data

BLOCKS = ("(plain)", "se", "local", "eca", "cbam")
WEIGHTS = ("trained", "random")
FIELDS = ("weights", "tool", "block", "policy", "cosine", "centred", "plain", "holds", "versions")
SIZE = 64
DIGITS: dict[str, Any] = {"size": SIZE, "clutter": 3, "digit": (0.7, 0.9)}
#: Most of the work; the products and sums of gates are left in float.
LAYERS = ("Conv", "Gemm", "MatMul")
OUT = Path(__file__).parents[1] / "docs" / "data" / "quantized.csv"


def images(split: Literal["train", "test"], count: int = 32) -> Tensor:
    """Cluttered digits as a network is given them."""
    return ClutteredDigits(split, **DIGITS).__getitems__([(0, 0, i) for i in range(count)])[0]


def plain_or_attended(block: str, policy: str, classes: int, start: str) -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=classes)
    if block != BLOCKS[0]:
        attnzoo.wrap(model, policy, block, start=start, example=(3, SIZE, SIZE))
    return model


@functools.cache
def trained(block: str, policy: str) -> nn.Module:
    """ResNet-18 with the block, trained; it starts as the plain one does."""
    model = plain_or_attended(block, policy, 10, "neutral")
    data = open_data(DigitsData(train=800, **DIGITS))
    result = fit(model, data, TrainRecipe(epochs=5, batch_size=32, lr=1e-3, warmup_epochs=0.5))
    print(f"{block} trained: {result.epochs[-1]['test_top1']:.1%} top-1", flush=True)
    return model.eval()


def random(block: str, policy: str) -> nn.Module:
    """ResNet-18 with the block, all of it away from its start."""
    model = moved(plain_or_attended(block, policy, 100, "identity"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all that it sees
            module.reset_running_stats()
    with torch.no_grad():
        model.train()(images("train"))
    return model.eval()


def onnxruntime(
    model: nn.Module, seen: Tensor, folder: Path, kinds: Sequence[str] | None = None
) -> Callable[[Tensor], Tensor]:
    """Static quantisation, QDQ, a scale for each channel of the weights.

    Of operations of these kinds, or of all that ONNX Runtime can quantise.
    """
    import onnxruntime as runtime
    from onnxruntime import quantization as tool
    from onnxruntime.quantization.shape_inference import quant_pre_process

    written, ready, small = (folder / name for name in ("float.onnx", "ready.onnx", "int8.onnx"))
    attnzoo.export(model, written, example=seen[:1])
    quant_pre_process(str(written), str(ready), skip_symbolic_shape=True)
    given = ({"images": x[None].numpy()} for x in seen)

    class Reader(tool.CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:
            return next(given, None)

    tool.quantize_static(
        str(ready),
        str(small),
        Reader(),
        per_channel=True,
        op_types_to_quantize=kinds and list(kinds),
    )
    session = runtime.InferenceSession(str(small), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def pt2e(
    model: nn.Module, seen: Tensor, folder: Path, *, attention: bool = True
) -> Callable[[Tensor], Tensor]:
    """XNNPACK's quantiser, symmetric, a scale for each channel of the weights.

    All that it takes, or all but attention.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (seen[:2],), dynamic_shapes=(batch,)).module()
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    quantiser = xnnpack.XNNPACKQuantizer().set_global(config)
    if not attention:
        quantiser.set_filter_function(outside)
    prepared = prepare_pt2e(program, quantiser)
    for few in seen.split(8):
        prepared(few)
    return convert_pt2e(prepared)


def outside(node: torch.fx.Node) -> bool:
    """Whether an operation is none of attention's."""
    around = node.meta.get("nn_module_stack", {}).values()
    return not any("attnzoo.hosts.attention.Attention" in str(kind) for _, kind in around)


TOOLS: dict[str, tuple[Callable[..., Callable[[Tensor], Tensor]], tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime, ("torch", "onnxruntime")),
    "onnxruntime-layers": (partial(onnxruntime, kinds=LAYERS), ("torch", "onnxruntime")),
    "pt2e": (pt2e, ("torch", "torchao", "executorch")),
    "pt2e-outside": (
        partial(pt2e, attention=False),
        ("torch", "torchao", "executorch"),
    ),
}


def cosines(wanted: Tensor, found: Tensor) -> tuple[float, float]:
    """Of all scores, as they are and centred by class."""
    pairs = ((wanted, found), (wanted - wanted.mean(0), found - found.mean(0)))
    return tuple(  # ty: ignore[invalid-return-type]
        float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs
    )


def rows(tool: str, blocks: list[str], policy: str, weights: str) -> Iterator[dict[str, Any]]:
    quantise, packages = TOOLS[tool]
    told = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in packages)
    seen, other = images("train"), images("test")
    plain = None
    for block in blocks:
        model = {"trained": trained, "random": random}[weights](block, policy)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            found = quantise(model, seen, Path(folder))(other)
            cosine, centred = cosines(model(other), found)
        plain = cosine if plain is None else plain
        holds = cosine >= min(0.99, plain - 0.005)
        yield {
            **{"weights": weights, "tool": tool, "block": block, "policy": policy},
            **{"cosine": f"{cosine:.4f}", "centred": f"{centred:.4f}", "plain": f"{plain:.4f}"},
            **{"holds": "yes" if holds else "no", "versions": told},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--blocks", nargs="+", default=list(BLOCKS[1:]))
    parser.add_argument("--policy", default="auto")
    parser.add_argument("--weights", nargs="+", default=list(WEIGHTS), choices=WEIGHTS)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    kept: list[dict[str, Any]] = []
    if asked.out and asked.out.is_file():
        with asked.out.open(encoding="utf-8", newline="") as file:
            rest = csv.DictReader(file)
            again = {(weights, tool) for weights in asked.weights for tool in asked.tools}
            kept = [row for row in rest if (row["weights"], row["tool"]) not in again]
    for weights, tool in itertools.product(asked.weights, asked.tools):
        try:
            for row in rows(tool, [BLOCKS[0], *asked.blocks], asked.policy, weights):
                print(*(row[name] for name in FIELDS[:-1]), flush=True)
                kept.append(row)
                if asked.out:
                    save(asked.out, kept)
        except ImportError as error:
            print(f"{tool}: {error}")


def save(path: Path, kept: list[dict[str, Any]]) -> None:
    order = {name: i for i, name in enumerate((*WEIGHTS, *TOOLS, *BLOCKS))}
    places = ("weights", "tool", "block")
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(kept, key=lambda row: [order[row[place]] for place in places]))


if __name__ == "__main__":
    main()
