"""Tensor files of safetensors: written whole or not at all, read without running anything."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import struct
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from attnzoo.checkpoint.header import unique_keys
from attnzoo.errors import CheckpointError
from attnzoo.tracing import held

__all__ = ["read_tensors", "write_tensors"]

DAY = 86400  # seconds: what another machine left behind is given up after that
LONGEST = 2**27  # bytes of a header; safetensors takes 100 MB


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a file of tensors; one that is there keeps its mode, and a link what it leads to.

    It is written beside the file and renamed, once it is on the disk. What a process that was
    killed left there is removed.

    Raises:
        CheckpointError: it cannot be written; a file that was there stays as it was.
    """
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise CheckpointError(
                f"cannot write {path}: {key} is a {str(tensor.layout).partition('.')[2]} tensor, "
                f"which the format has not. Make it dense before."
            )
    with held():  # an interrupt waits until nothing is left beside the file
        _write(path, tensors, header)


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    folder: Path | None = None
    try:
        target = Path(os.path.realpath(path))
        before = target.stat() if os.path.lexists(target) else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            raise CheckpointError(f"cannot write {path}: it is there and is no file.")
        if not target.parent.is_dir():
            raise CheckpointError(f"cannot write {path}: there is no folder {target.parent}.")
        _remove_leftovers(target)
        folder = target.with_name(f"{_prefix(target)}{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        folder.mkdir()
        partial = folder / "tensors"
        with partial.open("wb"):  # with the mode that the umask gives, which safetensors ignores
            mode = stat.S_IMODE((before or partial.stat()).st_mode)
        save_file(dict(tensors), partial, metadata=dict(header))
        partial.chmod(mode)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except CheckpointError:
        raise
    except Exception as error:  # of the system, of safetensors, of a name that is no text
        raise CheckpointError(f"cannot write {path}: {_reason(tensors, error)}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _reason(tensors: Mapping[str, Tensor], error: Exception) -> str:
    """What is wrong in words, where the error only has a name for it."""
    if isinstance(error, KeyError):
        kinds = {tensor.dtype: key for key, tensor in tensors.items()}
        for dtype, key in kinds.items():
            if error.args == (dtype,):
                return f"{key} is {dtype}, which the format has not."
    return f"{type(error).__name__}: {error}"


def _prefix(target: Path) -> str:
    """How temporary names beside a file begin: of one length, whatever the file is called."""
    told = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    return f".attnzoo-{told}-{host}-"


def _remove_leftovers(target: Path) -> None:
    """Remove what saves of this file left behind that were killed."""
    ours = _prefix(target)
    anywhere = ours.rpartition("-")[0].rpartition("-")[0]
    for left in target.parent.glob(f"{anywhere}-*.tmp"):
        pid = left.name.removeprefix(ours).partition("-")[0]
        dead = left.name.startswith(ours) and pid.isdecimal() and not _runs(int(pid))
        with suppress(OSError):
            if dead or time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    if os.name != "posix":  # asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and the tensors of a file, on the CPU.

    Raises:
        CheckpointError: there is none, it cannot be read, or is no such file.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise CheckpointError(f"{path} is no file.")
        _check_names(path)
        # Torch takes an interrupt inside for a damaged tensor, and swallows it.
        with held(), safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}.") from None
    except Exception as error:  # of the system, of safetensors, of torch
        raise CheckpointError(f"{path} is not a checkpoint of attnzoo: {error}") from error


def _check_names(path: Path) -> None:
    """Refuse a name that is there twice: safetensors takes one of the two."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > LONGEST:
            raise CheckpointError(f"{path} is not a checkpoint of attnzoo: its header is too long.")
        json.loads(file.read(length), object_pairs_hook=unique_keys)
