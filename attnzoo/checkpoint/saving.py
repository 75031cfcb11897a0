"""Saving and loading: one safetensors file with the recipe in its header. Nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint.fingerprint import fingerprint, warn_of_another
from attnzoo.checkpoint.header import What, read_header, sites_of, write_header
from attnzoo.checkpoint.state import first_names, plain_state
from attnzoo.checkpoint.tensor_files import read_tensors, write_tensors
from attnzoo.checks import check_choice, counted
from attnzoo.errors import AttnzooError, CheckpointError, NotWrappedError, OptionError
from attnzoo.hosts import (
    PlainNames,
    bare,
    cut_like,
    get_module,
    is_sharded,
    whole,
)
from attnzoo.surgery import Recipe, carry_out, make_plan, operations, unwrap
from attnzoo.tracing import held, undisturbed

__all__ = ["ATTENTION", "NETWORK", "Checkpoint", "file_in", "load", "rebuild", "save"]

NETWORK = "network.safetensors"
"""In a run's folder: the trained network, whole."""

ATTENTION = "attention.safetensors"
"""There: the attention, and perhaps what was trained beside it."""

SHOWN = 4  # runs that a message lists
WEIGHTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Tensors of these types are loaded into one another; others only into their own."""


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
        what: `"attention"` (the blocks alone), `"trained"` (with what was trained beside them) or
            `"all"`.
        recipes: `(path of the wrapped module, recipe, its sites)`, in the order of wrapping; a
            site is `"before features.4 64"`: side, path, channels.
        tensors: key → tensor, on the CPU.
        extra: key → what a module's `get_extra_state` had returned, where it was no tensor.
        network: how to build the plain network; None where the file does not tell.
        backbone: plain key → dtype and checksum of the tensors that the attention was saved beside.
    """

    model: str
    what: What
    recipes: tuple[tuple[str, Recipe, tuple[str, ...]], ...]
    tensors: dict[str, Tensor]
    extra: dict[str, Any] = field(default_factory=dict)
    network: NetworkRecipe | None = None
    backbone: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        wraps = "; ".join(
            f"{where or '(root)'}: {recipe}, {counted(len(sites), 'site')}"
            for where, recipe, sites in self.recipes
        )
        count = sum(tensor.numel() for tensor in self.tensors.values())
        return (
            f"Checkpoint({self.what} of {self.model}: {wraps}; "
            f"{counted(len(self.tensors), 'tensor')}, {counted(count, 'value')})"
        )


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    what: What = "attention",
    network: NetworkRecipe | None = None,
) -> None:
    """Write a wrapped model's weights and recipe to one safetensors file, atomically.

    Names in the file are those of the network itself, also where it was compiled, averaged or made
    parallel since. Of a model that is sharded over processes (FSDP2), all of them have to call
    this; the first one writes.

    Args:
        model: a wrapped model; with `network` a plain one, too.
        path: the file; its folder must exist.
        what: `"attention"`: the blocks and their γ, with checksums of the backbone, so that `load`
            can say where another one differs; `"trained"`: these, all parameters that are not
            frozen, such as a new head, and all buffers, such as the statistics of norms; `"all"`:
            the whole state dict.
        network: how the plain network is built, for whoever has the file alone: see `load`.

    Raises:
        NotWrappedError: the model holds no attention, and nothing is told of its network.
        CheckpointError: it cannot be written; a file that was there stays as it was.

    Example:
        >>> import attnzoo, copy, torchvision
        >>> plain = torchvision.models.resnet18()
        >>> model = attnzoo.wrap(copy.deepcopy(plain), "in-residual", "se")
        >>> attnzoo.save(model, "attention.safetensors")
        >>> again = attnzoo.load("attention.safetensors", plain)
        >>> len(attnzoo.attention_modules(again))
        8
    """
    check_choice("save", "what", what, get_args(What))
    if network is not None and not isinstance(network, NetworkRecipe):
        raise OptionError(f"save: network={network!r} must be an attnzoo.backbones.NetworkRecipe.")
    model = bare(model)
    done = operations(model)
    if not done and network is None:
        raise NotWrappedError(f"{type(model).__name__} holds no attention: there is no recipe.")
    state = plain_state(model, what)
    extra = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    meta = sorted(key for key, tensor in tensors.items() if tensor.is_meta)
    if meta:
        raise CheckpointError(f"cannot save tensors on the meta device: {', '.join(meta[:5])}.")
    told = None if network is None else network.to_dict()
    marks = None if what == "all" else fingerprint(model)
    header = write_header(type(model).__name__, what, done, extra, told, marks)
    sharded = any(is_sharded(tensor) for tensor in tensors.values())
    tensors = {
        # Two names may stand for one tensor, which a file cannot tell; sparse ones are refused.
        key: value.cpu().contiguous().clone() if value.layout == torch.strided else value
        for key, value in zip(tensors, map(whole, tensors.values()), strict=True)
    }
    unknown = {key: value for key, value in tensors.items() if type(value) is not Tensor}
    if unknown:
        key, value = next(iter(unknown.items()))
        raise CheckpointError(
            f"{key} is a {type(value).__name__}, and a safetensors file holds plain tensors "
            f"({len(unknown)} such tensors). Save before the weights are converted"
            + ("." if what == "attention" else ', or with what="attention".')
        )
    if not sharded or torch.distributed.get_rank() == 0:
        write_tensors(Path(os.fsdecode(path)), tensors, header)
    if sharded:
        torch.distributed.barrier()


def load(
    path: str | os.PathLike[str], model: nn.Module | None = None, *, example: Any = None
) -> Any:
    """Read a file that `save` wrote.

    Args:
        path: the file; or the folder of a run, which without a model must have kept its network.
        model: a plain model, which is wrapped as the file's recipe says, or one wrapped by the
            same recipe; then the weights are loaded. None only reads a file; of a run's folder,
            it builds the network, in eval mode, by a function of yours if the file names one: of
            folders from elsewhere take `from_pretrained`, which calls none.
        example: what to trace a plain model with, as `wrap` takes it; by default what was traced
            when the file's network was wrapped: the shapes, dtypes and structure of all arguments.

    Returns:
        The model, or without one and of a file a `Checkpoint`. Where the file does not hold the
        backbone and the model's is another one, a warning says which tensors differ.

    Raises:
        CheckpointError: the file is not one of ours or does not fit the model, which is then as
            it was.
    """
    path = Path(os.fsdecode(path))
    folder = os.path.isdir(path)  # of a name that the system does not take it says no
    of_a_run = model is None and folder
    checkpoint = _read(file_in(path, alone=model is not None) if folder else path)
    if of_a_run:
        return rebuild(checkpoint)
    if model is None:
        return checkpoint
    _load_into(model, checkpoint, path, example)
    warn_of_another(bare(model), checkpoint.backbone)
    return model


@undisturbed
def _load_into(model: nn.Module, checkpoint: Checkpoint, path: Path, example: Any) -> None:
    """All of it, or nothing."""
    fresh = not operations(model)
    try:
        if fresh:
            _wrap_again(model, checkpoint, example)
        _check_same(model, checkpoint)
        _copy(model, checkpoint)
    except BaseException as error:
        with held():
            if fresh and operations(model):
                unwrap(model)
        if isinstance(error, Exception) and not isinstance(error, AttnzooError):
            told = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path} does not fit this model: {told}") from error
        raise


def _read(path: Path) -> Checkpoint:
    metadata, tensors = read_tensors(path)
    if "attnzoo" not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but attnzoo did not write it. Plain weights "
            f"go in by attnzoo.load_backbone(model, state_dict)."
        )
    try:
        header = read_header(metadata)
    except AttnzooError as error:
        raise CheckpointError(f"{path} is not a checkpoint of attnzoo: {error}") from error
    return Checkpoint(
        header.model,
        header.what,
        header.recipes,
        tensors,
        header.extra,
        header.network,
        header.backbone,
    )


@undisturbed
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


def file_in(folder: Path, *, alone: bool) -> Path:
    """The file of a run's folder; `alone` takes one that holds the attention alone, too.

    Raises:
        CheckpointError: there is none.
    """
    for path in (folder / NETWORK, *[folder / ATTENTION] * alone):
        if path.is_file():
            return path
    inside = (
        place.parent for level in ("", "runs/") for place in folder.glob(f"{level}*/{NETWORK}")
    )
    runs = sorted(map(str, inside))
    if runs:  # it is that of a study, or of several runs
        shown = ", ".join(runs[:SHOWN]) + (", …" if len(runs) > SHOWN else "")
        raise CheckpointError(f"{folder} is no run's folder, but holds some. Name one: {shown}.")
    raise CheckpointError(
        f"{folder} holds no {NETWORK}: it is no run's folder, or the run kept its attention alone. "
        f"Train with keep: all (--keep all). A study's runs keep their attention alone unless its "
        f"file has keep: all or keep: best."
    )


def _wrap_again(model: nn.Module, checkpoint: Checkpoint, example: Any = None) -> None:
    try:
        for where, recipe, _ in checkpoint.recipes:
            traced = recipe.example if example is None else example
            carry_out(make_plan(get_module(model, where), recipe, traced))
    except Exception as error:
        raise CheckpointError(
            f"the file's recipe, made on {checkpoint.model}, does not work on this "
            f"{type(model).__name__}: {error}"
        ) from error


def _check_same(model: nn.Module, checkpoint: Checkpoint) -> None:
    here = [(where, sites_of(op)) for where, op in operations(model)]
    there = [(where, list(sites)) for where, _, sites in checkpoint.recipes]
    if here != there:
        different = next(
            (f"{a} here, {b} in the file" for a, b in zip(here, there, strict=False) if a != b),
            f"{len(here)} wraps here, {len(there)} in the file",
        )
        raise CheckpointError(f"the model has attention at other places: {different}.")


def _copy(model: nn.Module, checkpoint: Checkpoint) -> None:
    everything = checkpoint.what == "all"
    model = bare(model)
    names = PlainNames(model)
    own = plain_state(model, "attention" if checkpoint.what == "attention" else "all")
    needed = own if everything else plain_state(model, "attention")
    given: dict[str, Any] = {**checkpoint.tensors, **checkpoint.extra}
    if not everything:
        given = {new: given[key] for key, new in first_names(model, given).items()}
    adapted = {
        names.plain(f"{path}.{name}")
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, FitsState) and module.fits_state(given, f"{names.plain(path)}.")
        for name, _ in module.named_parameters()
    }
    faults = [f"{key} is missing" for key in needed if key not in given]
    faults += [f"{key} is not in the model" for key in given if key not in own]
    faults += [
        f"{key} is {theirs}, not {ours}"
        for key, value in given.items()
        if key in own and not key.endswith("_extra_state")  # what that is, its module knows
        for theirs, ours in _difference(value, own[key], key in adapted)
    ]
    if faults:
        more = f"; … ({len(faults)} in all)" if len(faults) > 8 else ""
        raise CheckpointError(f"the file does not fit: {'; '.join(faults[:8])}{more}.")
    assign = any(isinstance(own[key], Tensor) and own[key].is_meta for key in given)
    # A tensor of the file is a view into it, at any address: taken over as it is, it would follow
    # the file's fate, and kernels that look at alignment would round otherwise.
    if assign:
        given = {
            key: value.clone() if isinstance(value, Tensor) else value
            for key, value in given.items()
        }
    real = {names.plain(key): key for key in model.state_dict()}
    given = {real[key]: cut_like(value, own[key]) for key, value in given.items()}
    with torch.no_grad(), held():  # half of the old weights and half of the new are nobody's
        model.load_state_dict(given, strict=False, assign=assign)


def _difference(theirs: Any, ours: Any, adapts: bool) -> list[tuple[object, object]]:
    """What is not the same in kind: whether they are tensors, their shape, their type."""
    if not isinstance(theirs, Tensor) or not isinstance(ours, Tensor):
        kinds = ["a tensor" if isinstance(value, Tensor) else "none" for value in (theirs, ours)]
        return [(kinds[0], kinds[1])] if kinds[0] != kinds[1] else []
    if theirs.shape != ours.shape and not adapts:
        return [(tuple(theirs.shape), tuple(ours.shape))]
    alike = theirs.dtype == ours.dtype or (theirs.dtype in WEIGHTS and ours.dtype in WEIGHTS)
    return [] if alike else [(theirs.dtype, ours.dtype)]
