"""Saving and loading: one safetensors file with the recipe in its header. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checks import check_choice
from attnzoo.errors import AttnzooError, CheckpointError, NotWrappedError
from attnzoo.hosts import Attention, get_module
from attnzoo.surgery import Operation, Recipe, carry_out, make_plan, operations, unwrap

__all__ = ["NETWORK", "Checkpoint", "load", "rebuild", "save"]

NETWORK = "network.safetensors"
"""In a run's folder: the trained network, whole."""

What = Literal["attention", "all"]
_FORMAT = "1"


@runtime_checkable
class FitsState(Protocol):
    """A module that takes on the width of what is loaded into it, as a shrunken block must."""

    def fits_state(self, state: Mapping[str, Tensor], prefix: str = "") -> bool:
        """Whether it can load the tensors of `state` whose keys start with `prefix`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        model: class name of the model that was saved.
        what: `"attention"` (the blocks alone) or `"all"`.
        recipes: `(path of the wrapped module, recipe, its sites)`, in the order of wrapping; a
            site is `"before features.4 64"`: side, path, channels.
        tensors: key → tensor, on the CPU.
        network: how to build the plain network; None where the file does not tell.
    """

    model: str
    what: What
    recipes: tuple[tuple[str, Recipe, tuple[str, ...]], ...]
    tensors: dict[str, Tensor]
    network: NetworkRecipe | None = None


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    what: What = "attention",
    network: NetworkRecipe | None = None,
) -> None:
    """Write a wrapped model's weights and recipe to one safetensors file, atomically.

    Args:
        model: a wrapped model; with `network` a plain one, too.
        path: the file; its folder must exist.
        what: `"attention"`: the blocks and their γ; `"all"`: the whole state dict.
        network: how the plain network is built, for whoever has the file alone: see `load`.

    Raises:
        NotWrappedError: the model holds no attention, and nothing is told of its network.
        CheckpointError: it cannot be written; a file that was there stays as it was.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")
        >>> attnzoo.save(model, "attention.safetensors")
        >>> again = attnzoo.load("attention.safetensors", torchvision.models.resnet18())
        >>> len(attnzoo.attention_modules(again))
        8
    """
    check_choice("save", "what", what, ("attention", "all"))
    done = operations(model)
    if not done and network is None:
        raise NotWrappedError(f"{type(model).__name__} holds no attention: there is no recipe.")
    state = _attention_state(model) if what == "attention" else model.state_dict()
    meta = sorted(key for key, tensor in state.items() if tensor.is_meta)
    if meta:
        raise CheckpointError(f"cannot save tensors on the meta device: {', '.join(meta[:5])}.")
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    header = {"attnzoo": _FORMAT, "what": what, "model": type(model).__name__}
    try:
        header["operations"] = json.dumps([_describe(where, op) for where, op in done])
        if network is not None:
            header["network"] = json.dumps(network.to_dict())
    except TypeError as error:
        raise CheckpointError(f"the recipe has an option that is not plain JSON: {error}") from None
    _write(Path(path), tensors, header)


@torch.inference_mode(False)
def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> Any:
    """Read a file that `save` wrote.

    Args:
        path: the file; or the folder of a run that kept its network.
        model: a plain model, which is wrapped as the file's recipe says, or one wrapped by the
            same recipe; then the weights are loaded. None only reads a file; of a run's folder,
            it builds the network, in eval mode.

    Returns:
        The model, or without one and of a file a `Checkpoint`.

    Raises:
        CheckpointError: the file is not one of ours or does not fit the model, which is then as
            it was.
    """
    path = Path(path)
    whole = model is None and path.is_dir()
    checkpoint = _read(_network_in(path) if path.is_dir() else path)
    if whole:
        return rebuild(checkpoint)
    if model is None:
        return checkpoint
    fresh = not operations(model)
    if fresh:
        _wrap_again(model, checkpoint)
    try:
        _check_same(model, checkpoint)
        _copy(model, checkpoint)
    except AttnzooError:
        if fresh:
            unwrap(model)
        raise
    return model


def rebuild(checkpoint: Checkpoint) -> nn.Module:
    """The trained network that a file holds whole, in eval mode.

    Raises:
        CheckpointError: the file does not tell how it is built, or holds its attention alone.
        UnknownNameError: its backbone is a function whose module is not found here.
    """
    if checkpoint.network is None or checkpoint.what != "all":
        raise CheckpointError(
            "the file does not hold the whole network and how it is built. Give load() the plain "
            "model; or train with keep: all."
        )
    model = checkpoint.network.build()
    _wrap_again(model, checkpoint)
    _check_same(model, checkpoint)
    _copy(model, checkpoint)
    return model.eval()


def _network_in(folder: Path) -> Path:
    path = folder / NETWORK
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no {NETWORK}: it is no run's folder, or the run kept its attention "
            f"alone. Train with keep: all (--keep all)."
        )
    return path


def _attention_state(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{key}": tensor
        for path, module in model.named_modules()
        if isinstance(module, Attention)
        for key, tensor in module.state_dict().items()
    }


def _describe(where: str, operation: Operation) -> dict[str, Any]:
    return {
        "module": where,
        "recipe": operation.recipe.to_dict(),
        "sites": [f"{site.where} {site.path} {site.channels}" for site in operation.sites],
    }


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """To a temporary file beside `path` first, then renamed: whole or not at all."""
    if not path.parent.is_dir():
        raise CheckpointError(f"cannot write {path}: there is no folder {path.parent}.")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, name, metadata=header)
        os.replace(name, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _read(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
            if "attnzoo" not in header:
                raise CheckpointError(
                    f"{path} is a safetensors file, but attnzoo did not write it. Plain weights "
                    f"go in by attnzoo.load_backbone(model, state_dict)."
                )
            if header["attnzoo"] != _FORMAT:
                raise CheckpointError(
                    f"{path} has format {header['attnzoo']}; this version reads {_FORMAT}."
                )
            names = file.keys()
            tensors = {key: file.get_tensor(key) for key in names}
        recipes = tuple(
            (entry["module"], Recipe.from_dict(entry["recipe"]), tuple(entry["sites"]))
            for entry in json.loads(header["operations"])
        )
        what: What = "all" if header["what"] == "all" else "attention"
        told = header.get("network")
        network = None if told is None else NetworkRecipe.from_dict(json.loads(told))
        return Checkpoint(header["model"], what, recipes, tensors, network)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}.") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, AttnzooError):
            raise
        raise CheckpointError(f"{path} is not a checkpoint of attnzoo: {error}") from error


def _wrap_again(model: nn.Module, checkpoint: Checkpoint) -> None:
    try:
        for where, recipe, _ in checkpoint.recipes:
            carry_out(make_plan(get_module(model, where), recipe, recipe.input_size))
    except AttnzooError as error:
        if operations(model):
            unwrap(model)
        raise CheckpointError(
            f"the file's recipe, made on {checkpoint.model}, does not work on this "
            f"{type(model).__name__}: {error}"
        ) from error


def _check_same(model: nn.Module, checkpoint: Checkpoint) -> None:
    here = [(where, _describe(where, op)["sites"]) for where, op in operations(model)]
    there = [(where, list(sites)) for where, _, sites in checkpoint.recipes]
    if here != there:
        different = next(
            (f"{a} here, {b} in the file" for a, b in zip(here, there, strict=False) if a != b),
            f"{len(here)} wraps here, {len(there)} in the file",
        )
        raise CheckpointError(f"the model has attention at other places: {different}.")


def _copy(model: nn.Module, checkpoint: Checkpoint) -> None:
    everything = checkpoint.what == "all"
    own = model.state_dict() if everything else _attention_state(model)
    adapted = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, FitsState) and module.fits_state(checkpoint.tensors, f"{path}.")
        for name, _ in module.named_parameters()
    }
    faults = [f"{key} is missing" for key in own if key not in checkpoint.tensors]
    faults += [f"{key} is not in the model" for key in checkpoint.tensors if key not in own]
    faults += [
        f"{key} is {tuple(tensor.shape)}, not {tuple(own[key].shape)}"
        for key, tensor in checkpoint.tensors.items()
        if key in own and own[key].shape != tensor.shape and key not in adapted
    ]
    if faults:
        more = f"; … ({len(faults)} in all)" if len(faults) > 8 else ""
        raise CheckpointError(f"the file does not fit: {'; '.join(faults[:8])}{more}.")
    assign = any(own[key].is_meta for key in checkpoint.tensors)
    # A tensor of the file is a view into it, at any address: taken over as it is, it would follow
    # the file's fate, and kernels that look at alignment would round otherwise.
    tensors = checkpoint.tensors
    if assign:
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    with torch.no_grad():
        model.load_state_dict(tensors, strict=False, assign=assign)
