"""The attention maps of a finished run on some test images, small enough to keep for every run.

Backbones that are trained from scratch are not kept, so this is the last moment to look.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.errors import AttnzooError, NoMapsError, NotWrappedError
from attnzoo.maps import AttentionMap, attention_maps
from attnzoo.train.data import ImageData

__all__ = ["MAPS", "SavedMap", "read_maps", "save_maps"]

MAPS = "maps.npz"
SAMPLES = 4
LARGEST = 64  # pixels a side: larger maps are averaged down


@dataclass(frozen=True)
class SavedMap:
    """One map of one block, on some test images.

    Attributes:
        path, block, emitter, kind, channels, height, width: as in `attnzoo.AttentionMap`.
        gamma: mean |γ| there; None without γ.
        values: float32: what can be laid over the images, `(N, h, w)`, at most 64 a side; or the
            channels' gates, `(N, C)`. Each image's values were kept in 256 steps from its lowest
            to its highest.
    """

    path: str
    block: str
    emitter: str
    kind: str
    channels: int
    height: int
    width: int
    gamma: float | None
    values: np.ndarray


def save_maps(model: nn.Module, data: ImageData, path: str | Path, samples: int = SAMPLES) -> None:
    """Write what the model's attention does on the first test pictures, where it has maps.

    The pictures are those of `data.sample(0)`, `data.sample(1)` and so on. Without maps no file is
    written. A finished run is worth more than its pictures, so a block whose maps cannot be had
    costs a warning.
    """
    try:
        device = next(model.parameters()).device
        count = min(samples, len(data.test))
        images = data.test_images([data.sample(i).index for i in range(count)]).to(device)
        found = attention_maps(model, images.contiguous(memory_format=torch.channels_last))
    except (NotWrappedError, NoMapsError):
        return
    except AttnzooError as error:
        warnings.warn(f"attention maps are left out: {error}", stacklevel=2)
        return
    index, arrays = [], {}
    for found_map in found:
        values = _values(found_map)
        if values is None:
            continue
        flat = values.flatten(1)
        low, high = flat.amin(1), flat.amax(1)
        scale = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        steps = ((flat - low[:, None]) / scale[:, None] * 255).round().byte().view(values.shape)
        entry = SavedMap(**_facts(found_map), values=np.empty(0))
        index.append({**asdict(entry), "values": [low.tolist(), high.tolist()]})
        arrays[f"map{len(arrays)}"] = steps.cpu().numpy()
    if arrays:
        np.savez_compressed(path, index=np.array(json.dumps(index)), **arrays)


def read_maps(path: str | Path) -> list[SavedMap]:
    """The maps that a run left, in the order in which the network computes them; none if none.

    Example:
        >>> from attnzoo.train import read_maps
        >>> read_maps("runs/quickstart/runs/none/maps.npz")
        []
    """
    if not Path(path).is_file():
        return []
    with np.load(path, allow_pickle=False) as file:
        maps = []
        for number, entry in enumerate(json.loads(str(file["index"]))):
            steps = file[f"map{number}"].astype(np.float32) / 255
            shape = (-1, *[1] * (steps.ndim - 1))
            low, high = (np.array(ends, np.float32).reshape(shape) for ends in entry["values"])
            maps.append(SavedMap(**{**entry, "values": low + (high - low) * steps}))
        return maps


def _values(found: AttentionMap) -> Tensor | None:
    if found.kind == "channel":
        return found.tensor.float().flatten(1)
    heat = found.heat
    if heat is None or max(heat.shape[1:]) <= LARGEST:
        return heat
    size = (min(heat.shape[1], LARGEST), min(heat.shape[2], LARGEST))
    return F.adaptive_avg_pool2d(heat[:, None], size)[:, 0]


def _facts(found: AttentionMap) -> dict[str, Any]:
    names = ("path", "block", "emitter", "kind", "channels", "height", "width")
    gamma = None if found.gamma is None else found.openness
    return {**{name: getattr(found, name) for name in names}, "gamma": gamma}
