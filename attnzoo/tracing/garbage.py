"""Python's garbage collector, told to wait."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["collection_paused"]


@contextmanager
def collection_paused() -> Generator[None]:
    """No garbage collection inside. Usable as a decorator too.

    A trace is many small objects which reference counts alone take away again. The collector
    would look through them, and now and then through everything that torch has imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
