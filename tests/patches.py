"""Importing ultralytics changes other libraries for the whole process; the tests undo that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from PIL import Image

__all__ = ["others_left_alone"]


@contextmanager
def others_left_alone() -> Iterator[None]:
    """Afterwards numpy prints, Pillow opens and torch saves as before."""
    with (
        np.printoptions(),
        mock.patch.object(Image, "open", Image.open),
        mock.patch.object(torch, "save", torch.save),
    ):
        yield
