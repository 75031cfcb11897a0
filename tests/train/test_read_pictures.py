"""Pictures are read the right way up, and no bit depth turns white in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnzoo.errors import DataError
from attnzoo.train.reading import as_picture, open_picture

RAMP = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def saved(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"deep{suffix}", (RAMP * 65535).astype(np.uint16))
    picture = open_picture(path)
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture)[:, :, 0] - RAMP * 255).max() <= 1
    assert open_picture(path, 1).mode == "L"


def test_what_older_versions_of_pillow_call_32_bits_is_scaled() -> None:
    image = Image.fromarray((RAMP * 65535).astype(np.int32))
    image.format = "PNG"
    assert np.abs(np.asarray(as_picture(image, 1)) - RAMP * 255).max() <= 1


def test_floating_point_up_to_one_is_scaled(tmp_path: Path) -> None:
    picture = open_picture(saved(tmp_path / "float.tiff", RAMP), 1)
    assert np.abs(np.asarray(picture) - RAMP * 255).max() <= 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((RAMP * 1000).astype(np.int32), "32-bit integers from 0 to 1000"),
        (RAMP * 40 - 3, "floating point from -3 to 37"),
        (RAMP * np.nan, "floating point from nan to nan"),
    ],
)
def test_where_white_is_unknown_the_picture_is_refused(
    values: np.ndarray, says: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "deep.tiff", values)
    with pytest.raises(DataError) as caught:
        open_picture(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_orientation_of_a_phone_is_honoured(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "phone.png", exif=exif)
    turned = open_picture(tmp_path / "phone.png")
    assert turned.size == (8, 16)
    assert turned.getpixel((4, 2)) == (255, 255, 255)
    assert turned.getpixel((4, 13)) == (0, 0, 0)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_the_number_of_channels(channels: int, mode: str) -> None:
    for source in ("L", "RGB", "RGBA", "P", "CMYK", "1"):
        assert as_picture(Image.new(source, (4, 4)), channels).mode == mode
