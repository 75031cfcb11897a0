"""What the backbone was that attention was saved from, so that `load` can say where it differs."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attnzoo.hosts import whole
from attnzoo.weights import backbone_state_dict

__all__ = ["fingerprint", "warn_of_another"]

SHOWN = 3


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Plain key → dtype and checksum, of every tensor of the backbone that is not on meta."""
    tensors = ((key, whole(value)) for key, value in backbone_state_dict(model).items())
    return {
        key: f"{str(tensor.dtype).removeprefix('torch.')} {_checksum(tensor):08x}"
        for key, tensor in tensors
        if type(tensor) is Tensor
        and tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_quantized)
    }


def warn_of_another(model: nn.Module, told: Mapping[str, str]) -> None:
    """Say which tensors are not those that the attention was saved beside.

    Of another dtype they can't be compared, and are passed over.
    """
    here = fingerprint(model)
    different = [
        key
        for key, mark in told.items()
        if key in here
        and here[key] != mark
        and here[key].partition(" ")[0] == mark.partition(" ")[0]
    ]
    if not different:
        return
    weights = [key for key in different if not _is_statistic(key)]
    moved = [key for key in different if _is_statistic(key)]
    said = [
        f"{len(keys)} {kind} ({', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''})"
        for keys, kind in ((weights, "weights"), (moved, "statistics of norms"))
        if keys
    ]
    warnings.warn(
        f"the attention was trained in another backbone: of {len(told)} tensors, "
        f"{' and '.join(said)} are not those of this {type(model).__name__}. Load the backbone "
        f'that it was saved from, or save with what="trained", which takes along whatever was '
        f"trained beside it.",
        stacklevel=3,
    )


def _is_statistic(key: str) -> bool:
    return key.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def _checksum(tensor: Tensor) -> int:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy()) if flat.numel() else 0
