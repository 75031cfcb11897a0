"""Files for other programs: what may be free, what is told beside them, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import snapshot

import attnzoo
from attnzoo.deploy import FORMATS
from attnzoo.errors import MissingExtraError, OptionError, UnsupportedModelError

pytestmark = pytest.mark.no_cover

SIZE = (3, 64, 64)


def small(block: str = "se") -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return attnzoo.wrap(model, "pre-pool", block, start="paper", example=SIZE)


@pytest.mark.parametrize("format", ["onnx", "pt2", "torchscript"])
def test_what_was_checked_is_written_beside_the_file(format: Any, tmp_path: Path) -> None:
    model = small().train()
    before = snapshot(model)
    path = tmp_path / "new" / "net.file"
    done = attnzoo.export(model, path, format)  # the example is the one of wrap
    assert snapshot(model) == before
    assert (done.path, done.format, done.free) == (path, format, ("batch", "size"))
    told = json.loads((tmp_path / "new" / "net.file.json").read_text("utf-8"))
    assert told == json.loads(json.dumps(done.to_dict()))
    assert told["tried"] == [[1, *SIZE], [3, *SIZE], [1, 3, 128, 96]]
    assert told["difference"] < 1e-4
    assert told["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["net.file", "net.file.json"]


@pytest.mark.parametrize("block", ["shuffle", "ema"])
def test_the_exporter_before_it_leaves_the_same_free(block: str, tmp_path: Path) -> None:
    done = attnzoo.export(small(block), tmp_path / "net.onnx", legacy=True)
    assert (done.format, done.free) == ("onnx-legacy", ("batch", "size"))
    with pytest.raises(OptionError, match="legacy=True is for format='onnx'"):
        attnzoo.export(small(), tmp_path / "net.pt2", "pt2", legacy=True)


class Siamese(nn.Module):
    """Two pictures in, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = small()

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        one, other = self.trunk(left), self.trunk(right)
        return {"same": (one - other).square().sum(1), "left": one}


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_several_inputs_and_a_dict(format: Any, tmp_path: Path) -> None:
    example = {"left": torch.randn(2, *SIZE), "right": torch.randn(2, *SIZE)}
    done = attnzoo.export(Siamese(), tmp_path / "net", format, example)
    assert done.free == ("batch",)
    assert done.tried == ((2, *SIZE), (4, *SIZE))


def test_compiled_networks_are_exported_as_they_are(tmp_path: Path) -> None:
    model = small()
    done = attnzoo.export(torch.compile(model), tmp_path / "net.pt", "torchscript")
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(done.path)(x), model.eval()(x))


class Chancy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand(len(x), 3)


def test_what_computes_something_else_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_text("mine")
    with pytest.raises(UnsupportedModelError, match="scores differ by"):
        attnzoo.export(Chancy(), tmp_path / "net.pt", "torchscript", SIZE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pt"]
    assert (tmp_path / "net.pt").read_text() == "mine"


def test_what_is_asked_for_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'tflite' is not one of"):
        attnzoo.export(small(), tmp_path / "net", "tflite")  # ty: ignore[invalid-argument-type]
    with pytest.raises(OptionError, match="is a folder"):
        attnzoo.export(small(), tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"expected an nn\.Module"):
        attnzoo.export(None, tmp_path / "net")  # ty: ignore[invalid-argument-type]
    assert not list(tmp_path.iterdir())


EXTRAS = {
    "openvino": "openvino",
    "executorch": "executorch",
    "litert": "litert_torch",
    "coreml": "coremltools",
    "ncnn": "ncnn",
}


def test_every_format_of_an_extra_is_named_in_a_test() -> None:
    assert set(FORMATS) - {"onnx", "onnx-legacy", "pt2", "torchscript"} == set(EXTRAS)


@pytest.mark.parametrize("format", EXTRAS)
def test_other_programs(format: Any, tmp_path: Path) -> None:
    """Right where the program is installed; else the extra that brings it is named."""
    import importlib.util

    path = tmp_path / "net"
    if importlib.util.find_spec(EXTRAS[format]) is None:
        with pytest.raises(MissingExtraError, match=rf"attnzoo\[{format}\]"):
            attnzoo.export(small(), path, format)
        assert not list(tmp_path.iterdir())
        return
    done = attnzoo.export(small(), path, format)
    assert path.exists()
    assert (tmp_path / "net.json").is_file()
    assert done.difference is None or done.difference < 1e-4
    assert done.delegates == (1 if format == "executorch" else None)
