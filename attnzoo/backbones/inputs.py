"""What pictures trained weights expect: size, crop, interpolation, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torchvision

from attnzoo.backbones.naming import Named, find_backbone
from attnzoo.backbones.packaged import PACKAGED
from attnzoo.backbones.sources import Source, source_of

__all__ = ["InputOptions", "input_options"]


@dataclass(frozen=True)
class InputOptions:
    """How pictures are prepared for a network. The names are those of the data's options.

    Attributes:
        size: side of the images in pixels.
        mean, std: of the pixels from 0 to 1 in each channel, taken off and divided by.
        interpolation: by which pictures are scaled.
        test_crop: share of the shorter side that the central crop of a test image keeps.
        origin: whose these are, in words.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    test_crop: float = 1.0
    origin: str = "ImageNet's usual ones"


def input_options(
    name: str, weights: str | bool | None = None, options: Mapping[str, Any] | None = None
) -> InputOptions:
    """What a backbone's weights expect. Nothing is built or fetched.

    Of weights in a file, what the published weights of that network expect: the file does not
    tell. Without weights, and for functions of yours, ImageNet's mean and standard deviation at
    224 pixels.

    Args:
        name: as in `create_backbone`.
        weights: likewise.
        options: likewise.

    Raises:
        UnknownNameError: no such network.
        OptionError: it has no such weights.

    Example:
        >>> from attnzoo.backbones import input_options
        >>> found = input_options("timm/tf_efficientnet_lite0", "DEFAULT")
        >>> found.mean, found.interpolation, found.test_crop
        ((0.5, 0.5, 0.5), 'bicubic', 0.875)
    """
    named = find_backbone(name)
    source, _ = source_of(named, weights, options or {})
    if source is None or named.library == "own":
        return InputOptions()
    if named.library == "torchvision":
        return _of_torchvision(named, source)
    network = PACKAGED[named.model].network if named.library == "pretrained" else source.name
    config = timm.get_pretrained_cfg(network, allow_unregistered=True)
    if config is None:
        return InputOptions()
    return InputOptions(
        size=config.input_size[1],
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        test_crop=config.crop_pct,
        origin=f"timm's for {network}",
    )


def _of_torchvision(named: Named, source: Source) -> InputOptions:
    enum = torchvision.models.get_model_weights(named.model)
    if source.kind == "file" and not len(enum):
        return InputOptions()
    chosen = enum["DEFAULT"] if source.kind == "file" else enum[source.name]
    prepared = chosen.transforms()
    if not all(hasattr(prepared, part) for part in ("crop_size", "resize_size", "mean", "std")):
        return InputOptions()  # of detectors and the like
    size = prepared.crop_size[0]
    return InputOptions(
        size=size,
        mean=tuple(prepared.mean),
        std=tuple(prepared.std),
        interpolation=prepared.interpolation.value,
        test_crop=size / prepared.resize_size[0],
        origin=f"torchvision's for {chosen}",
    )
