"""A trained network in a file that other programs run: ONNX, torch.export, TorchScript."""

from __future__ import annotations

import os

from attnzoo.deploy import FORMATS, Export, Format
from attnzoo.deploy import export as export_model
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["FORMATS", "Export", "export"]


def export(
    network: TrainedNetwork,
    path: str | os.PathLike[str],
    format: Format = "onnx",
    *,
    legacy: bool = False,
) -> Export:
    """Write a trained network for other programs, and see that the file computes the same.

    Args:
        network: from `open_network`.
        path: of the file.
        format: see `attnzoo.export`, which does this for any model.
        legacy: ONNX by the exporter before `torch.export`.

    Raises:
        OptionError: `path` is a folder.
        MissingExtraError: the packages of the format are not installed.
        UnsupportedModelError: it cannot be exported so, or computes something else.
    """
    return export_model(network.model, path, format, example=network.shape, legacy=legacy)
