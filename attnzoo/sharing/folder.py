"""A network with attention as a folder: weights, recipe and card, written and read."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint import ATTENTION, NETWORK, Checkpoint, load, rebuild, save
from attnzoo.errors import CheckpointError, NotWrappedError, OptionError
from attnzoo.files import written_whole
from attnzoo.hosts import bare, is_of_transformers
from attnzoo.sharing.card import Facts, model_card
from attnzoo.sharing.hub import downloaded
from attnzoo.surgery import operations
from attnzoo.weights import backbone_state_dict

__all__ = ["from_pretrained", "save_pretrained"]

CARD = "README.md"
OURS = "<!-- Written by attnzoo, which writes it anew as long as this line is here. -->"


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    network: NetworkRecipe | None = None,
    name: str | None = None,
    license: str | None = None,
    results: Mapping[str, float] | None = None,
    data: str = "",
    task: str = "image-classification",
) -> Path:
    """Write a folder that others can load: weights and recipe by `save`, and a model card.

    With `network` it is the whole network, in `network.safetensors`, which `from_pretrained`
    builds again. Of a model of transformers it is the plain network by its own `save_pretrained`,
    which anybody loads without attnzoo, and the attention in `attention.safetensors`. Else it is
    the attention, and whatever was trained beside it, for whoever has the plain network.

    The card, `README.md`, says what it is, how to load it, where the attention is, what it costs,
    its results and its licence. A card of your own is left alone; one of ours is written anew.

    Args:
        model: with attention.
        folder: made if it is not there.
        network: how the plain network is built: a library's name and options.
        name: of the card, and in the code that it shows, such as `"user/name"`; by default the
            folder's.
        license: identifier, such as `"mit"` or `"apache-2.0"`.
        results: metric → value, such as `{"top1": 0.93}`.
        data: what the results are of.
        task: as the Hugging Face Hub calls it.

    Returns:
        The folder.

    Raises:
        NotWrappedError: the model holds no attention.
        OptionError: results are no numbers, or it is not said of which data they are.
        CheckpointError: a file cannot be written.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")
        >>> recipe = attnzoo.backbones.NetworkRecipe("torchvision/resnet18")
        >>> folder = attnzoo.save_pretrained(model, "shared", network=recipe, license="mit")
        >>> sorted(file.name for file in folder.iterdir())
        ['README.md', 'network.safetensors']
        >>> again = attnzoo.from_pretrained("shared")
        >>> len(attnzoo.attention_modules(again))
        8
    """
    found = _checked(results, data)
    model = bare(model)
    if not operations(model):
        raise NotWrappedError(f"{type(model).__name__} holds no attention: there is no recipe.")
    folder = Path(os.fsdecode(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from error
    theirs = network is None and is_of_transformers(model)
    facts = Facts(
        name or folder.resolve().name,
        network is not None,
        theirs,
        network,
        license,
        found,
        data,
        task,
    )
    card = model_card(model, facts)
    if theirs:
        whole: Any = model
        whole.save_pretrained(folder, state_dict=backbone_state_dict(model))
    if network is not None:
        save(model, folder / NETWORK, what="all", network=network)
    else:
        save(model, folder / ATTENTION, what="attention" if theirs else "trained")
    (folder / (ATTENTION if network is not None else NETWORK)).unlink(missing_ok=True)
    _write_card(folder / CARD, card)
    return folder


def from_pretrained(
    source: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    revision: str | None = None,
    example: Any = None,
) -> nn.Module:
    """Load a folder that `save_pretrained` wrote, from here or from the Hugging Face Hub.

    Nothing is unpickled. A network that a function builds, `"package.module:function"`, is not
    built here, since a file from elsewhere would say what is to be called: give the plain model,
    or, where you know the file, call `attnzoo.load(folder)`.

    Args:
        source: the folder; or, where there is none of that name, a repository, `"user/name"`,
            which `huggingface_hub` downloads from `HF_ENDPOINT` and keeps.
        model: the plain network, as in `load`; None builds it where the folder tells how.
        revision: branch, tag or commit of the repository.
        example: as in `load`.

    Returns:
        The network with attention; in eval mode where it was built here.

    Raises:
        CheckpointError: there is no such folder or repository, it holds no file of attnzoo's, the
            file does not fit, or the plain network has to be given.
    """
    folder = Path(os.fsdecode(source))
    if not folder.is_dir():
        folder = downloaded(os.fsdecode(source), revision)
    file = next((folder / n for n in (NETWORK, ATTENTION) if (folder / n).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{source} holds neither {NETWORK} nor {ATTENTION}: attnzoo.save_pretrained(model, "
            f"folder) writes them."
        )
    if model is not None:
        return load(file, model, example=example)
    checkpoint: Checkpoint = load(file)
    if file.name == NETWORK:
        return _built(checkpoint, source)
    if (folder / "config.json").is_file():
        return load(file, _plain_of_transformers(folder), example=example).eval()
    raise CheckpointError(
        f"{source} holds the attention of a {checkpoint.model}, not the whole network. Build that "
        f"with its own weights and pass it: attnzoo.from_pretrained({os.fspath(source)!r}, model)."
    )


def _built(checkpoint: Checkpoint, source: object) -> nn.Module:
    backbone = "" if checkpoint.network is None else checkpoint.network.backbone
    if ":" in backbone:
        raise CheckpointError(
            f"the network in {source} is built by a function, {backbone!r}, which is not called "
            f"because a file says so. Pass the plain model, or, where you trust the file, call "
            f"attnzoo.load on the folder."
        )
    return rebuild(checkpoint)


def _plain_of_transformers(folder: Path) -> nn.Module:
    """The plain network in a folder of transformers', of one of its own classes."""
    try:
        names = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or []
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise CheckpointError(
            f"{folder} holds a network of transformers, which is not installed: pip install "
            f"transformers."
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read: {error}") from error
    known: Any = getattr(transformers, str(next(iter(names), "")), None)
    if not (isinstance(known, type) and issubclass(known, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"{folder} holds a {', '.join(map(str, names)) or 'network'}, which is no class of "
            f"transformers. Load it by its own from_pretrained, and pass it."
        )
    return known.from_pretrained(folder, use_safetensors=True)


def _checked(results: Mapping[str, float] | None, data: str) -> dict[str, float]:
    found = dict(results or {})
    for metric, value in found.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise OptionError(f"save_pretrained: results[{metric!r}]={value!r} must be a number.")
    if found and not data:
        raise OptionError(
            f"save_pretrained: {', '.join(found)} on which data? Say so by data=, such as "
            f"data='CIFAR-10, test'."
        )
    return found


def _write_card(path: Path, card: str) -> None:
    if path.is_file() and OURS not in path.read_text("utf-8", errors="replace"):
        return
    head, fence, text = card.removeprefix("---\n").partition("\n---\n")
    with written_whole(path) as partial:
        partial.write_text(f"---\n{head}{fence}\n{OURS}\n{text}", "utf-8")
