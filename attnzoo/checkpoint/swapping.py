"""Another file's attention in the places of a model's own."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from torch import nn

from attnzoo.checkpoint.saving import Checkpoint, file_in, load
from attnzoo.errors import CheckpointError, NotWrappedError
from attnzoo.hosts import bare
from attnzoo.surgery import attention_modules, recipes, unwrap

__all__ = ["swap"]


def swap(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Put the attention of a file that `save` wrote in the places of the model's own.

    The block may be another one; the places are the same. It is tried on a copy first.

    Args:
        model: with attention of one insertion; changed in place and returned.
        path: of the file, or of a folder that holds one.

    Raises:
        NotWrappedError: the model holds no attention.
        CheckpointError: the file is not one of ours, or its attention stands at other places; or
            the model has several insertions: take one out by name, and load the file.

    Whatever is raised, the model is as it was.

    Example:
        >>> import attnzoo, torchvision
        >>> one, other = torchvision.models.resnet18(), torchvision.models.resnet18()
        >>> attnzoo.save(attnzoo.wrap(one, "in-residual", "eca"), "eca.safetensors")
        >>> model = attnzoo.swap(attnzoo.wrap(other, "in-residual", "se"), "eca.safetensors")
        >>> type(model.layer1[0].attn.block).__name__
        'EfficientChannelAttention'
    """
    root = bare(model)
    there = attention_modules(root)
    if not there:
        raise NotWrappedError(f"{type(model).__name__} holds no attention to be swapped.")
    done = recipes(root)
    if len(done) > 1:
        raise CheckpointError(
            f"{type(model).__name__} has {len(done)} insertions. Take the one out that is to go, "
            f"attnzoo.unwrap(model, name), and load the file."
        )
    path = Path(os.fsdecode(path))
    path = file_in(path, alone=True) if path.is_dir() else path
    checkpoint: Any = load(path)
    assert isinstance(checkpoint, Checkpoint)
    if [recipe for _, recipe, _ in checkpoint.recipes] == done:
        load(path, root)
        return model
    tried = load(path, unwrap(copy.deepcopy(root)))
    if attention_modules(tried).keys() != there.keys():
        raise CheckpointError(
            f"{os.fspath(path)} has attention at {len(attention_modules(tried))} places, which are "
            f"not the {len(there)} of this {type(model).__name__}. Unwrap it, and load the file."
        )
    load(path, unwrap(root))
    return model
