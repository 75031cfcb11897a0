"""A trained network as its file tells it: with its classes, and how pictures are prepared."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint import NETWORK, load, rebuild
from attnzoo.errors import CheckpointError, OptionError
from attnzoo.train import PictureOptions, RunSpec

__all__ = ["TrainedNetwork", "open_network"]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that a run kept.

    Attributes:
        model: in eval mode, on the CPU.
        recipe: how it is built, its classes, and how pictures become images.
        run: what was run, where its folder was given.
    """

    model: nn.Module
    recipe: NetworkRecipe
    run: RunSpec | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.recipe.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, `(C, S, S)`, as it was trained."""
        size = self.recipe.size or 224
        return (self.recipe.channels, size, size)

    @property
    def pictures(self) -> PictureOptions:
        """How pictures become images.

        Raises:
            OptionError: it was trained on images that are made, not read.
        """
        if not self.recipe.input:
            raise OptionError(
                "the network was trained on images that are drawn (cluttered digits), so it is "
                "not known how a picture is to be prepared for it."
            )
        return PictureOptions.model_validate(self.recipe.input)

    @property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """Picture → image `(C, S, S)`, as test images were prepared."""
        return self.pictures.transform(training=False)


def open_network(path: str | os.PathLike[str]) -> TrainedNetwork:
    """The network that a run kept.

    Args:
        path: the run's folder, or its `network.safetensors`.

    Raises:
        CheckpointError: it is neither, or the run kept its attention alone.
        UnknownNameError: its backbone is a function whose module is not found here.

    Example:
        >>> from attnzoo.train import train
        >>> from attnzoo.trained import open_network
        >>> result = train({
        ...     "backbone": "timm/test_resnet",
        ...     "data": {"name": "cluttered-digits", "size": 32, "train": 16, "test": 16},
        ...     "train": {"epochs": 1, "batch_size": 16},
        ... }, "run")
        >>> open_network("run").classes[:3]
        ('0', '1', '2')
    """
    path = Path(path)
    if path.is_dir():
        return _opened(path / NETWORK, _run_in(path), path)
    return _opened(path, _run_in(path.parent), path)


def _opened(file: Path, run: RunSpec | None, asked: Path) -> TrainedNetwork:
    if not file.is_file() and asked.is_dir():
        load(asked)  # raises, and says what is missing
    checkpoint = load(file)
    model = rebuild(checkpoint)
    if checkpoint.network is None:  # rebuild has refused it
        raise CheckpointError(f"{file} does not tell how its network is built.")
    return TrainedNetwork(model, checkpoint.network, run)


def _run_in(folder: Path) -> RunSpec | None:
    try:
        return RunSpec.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
