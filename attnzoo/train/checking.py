"""Looking at image files before training starts, so that a broken one is not met in epoch 40."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from attnzoo.errors import DataError

__all__ = ["check_files"]

READERS = 16  # threads: they wait for the disk most of the time
LISTED = 50


def check_files(owner: str, files: Sequence[str], limit: int | None = None) -> None:
    """See that files are images, by their headers (PNG: by the checksums of all parts).

    A JPEG that breaks off in the middle passes: only decoding all of it would tell.

    Args:
        owner: what the message calls them.
        files: paths.
        limit: at most how many to look at, spread evenly; None looks at all.

    Raises:
        DataError: naming those that are not, with the reason.
    """
    step = 1 if limit is None or not files else max(1, -(-len(files) // max(1, limit)))
    chosen = [] if limit == 0 else files[::step]
    with ThreadPoolExecutor(READERS) as pool:
        faults = [fault for fault in pool.map(_fault, chosen, chunksize=64) if fault]
    if faults:
        more = len(faults) - LISTED
        raise DataError(
            f"{owner}: {len(faults)} of {len(chosen)} files that were looked at cannot be read as "
            f"images. Remove or replace them.\n"
            + "\n".join(f"- {fault}" for fault in faults[:LISTED])
            + (f"\nand {more} more" if more > 0 else "")
        )


def _fault(path: str) -> str | None:
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return f"{path}: it is no file"
        with Image.open(path) as image:
            image.verify()
    except Exception as error:  # decoders raise whatever they come upon
        reason = str(error).replace(repr(path), "").strip() or type(error).__name__
        return f"{path}: {reason}"
    return None
