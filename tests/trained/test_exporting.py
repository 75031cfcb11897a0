"""Exported files compute what the model does; checked here by other inputs than there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from trained import Run

from attnzoo.backbones import NetworkRecipe
from attnzoo.errors import OptionError, UnsupportedModelError
from attnzoo.trained import TrainedNetwork, export, open_network


def loaded(path: Path, format: str) -> Any:
    if format == "pt2":
        return torch.export.load(path).module()
    if format == "torchscript":
        return torch.jit.load(path)
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


@pytest.mark.parametrize("format", ["onnx", "pt2", "torchscript"])
def test_a_network_with_attention(format: str, run: Run, tmp_path: Path) -> None:
    network = open_network(run.folder)
    done = export(network, tmp_path / "out" / "net", format)
    assert done.free == ("batch", "size")
    assert done.difference < 1e-4
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {"net", "net.json"}
    images = torch.randn(5, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(done.path, format)(images), network.model(images), atol=1e-4, rtol=1e-3
        )


def test_a_network_of_one_size(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 49, 3))
    network = TrainedNetwork(model.eval(), NetworkRecipe("own", size=16))
    done = export(network, tmp_path / "net.pt2", "pt2")
    assert done.free == ("batch",)
    images = torch.randn(7, 3, 16, 16)
    torch.testing.assert_close(loaded(done.path, "pt2")(images), model(images))


def test_padding_that_hangs_on_the_size_leaves_it_fixed(tmp_path: Path) -> None:
    """torch.export would carry roundings through the whole network, for minutes."""
    model = timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=3).eval()
    done = export(TrainedNetwork(model, NetworkRecipe("own", size=64)), tmp_path / "n.pt2", "pt2")
    assert done.free == ("batch",)


class Chancy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rand(len(x), 3)


def test_what_computes_something_else_is_refused(tmp_path: Path) -> None:
    network = TrainedNetwork(Chancy().eval(), NetworkRecipe("own", size=16))
    with pytest.raises(UnsupportedModelError, match="scores differ by"):
        export(network, tmp_path / "net.pt", "torchscript")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OptionError, match="'tflite'"):
        export(network, tmp_path / "net.pt", "tflite")
