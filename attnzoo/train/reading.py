"""Reading a picture: the right way up, and in eight bits a channel, or not at all."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from attnzoo.errors import DataError

__all__ = ["as_picture", "open_picture"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
WHITE_16 = 65535


def open_picture(path: str | os.PathLike[str], channels: int = 3) -> Image.Image:
    """A file's picture in so many channels, turned as its EXIF orientation says.

    Raises:
        DataError: it cannot be read, or it is not known what its white is.
    """
    try:
        with Image.open(path) as image:
            return as_picture(image, channels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise whatever they come upon
        raise DataError(f"{path}: cannot be read as an image ({error}).") from error


def as_picture(image: Image.Image, channels: int = 3) -> Image.Image:
    """The picture in so many channels of 8 bits, turned as its EXIF orientation says.

    Pillow's own conversion cuts what is above 255 off. Here 16 bits are scaled to 8, and floating
    point from 0 to 1 as well.

    Args:
        image: of any mode.
        channels: 1 is grey, 3 RGB, 4 RGBA.

    Raises:
        DataError: of 32-bit integers, or floating point beyond 0 to 1, the white is not known.
    """
    turned = ImageOps.exif_transpose(image) if image.getexif() else image
    return _eight_bits(turned).convert(MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (0 <= low <= high <= 1):
            raise DataError(
                f"its pixels are floating point from {low:g} to {high:g}, and it is not known "
                f"which is white. Scale them to 0 to 1, or save them in 8 or 16 bits."
            )
        return Image.fromarray((values * 255).round().astype(np.uint8))
    # Older versions of Pillow call a PNG of 16 bits one of 32.
    sixteen = image.mode != "I" or image.format == "PNG"
    if not sixteen:
        raise DataError(
            f"its pixels are 32-bit integers from {values.min()} to {values.max()}, and it is not "
            f"known which is white. Save them in 8 or 16 bits."
        )
    scaled = values.astype(np.float32) * (255 / WHITE_16)
    return Image.fromarray(scaled.round().astype(np.uint8))
