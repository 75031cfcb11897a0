"""Plain weights in and out of a wrapped model."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from attnzoo.checks import counted
from attnzoo.errors import CheckpointError
from attnzoo.hosts import AROUND, Attended, Attention, PlainNames, Replaced, bare, cut_like

__all__ = [
    "LoadReport",
    "StateDict",
    "backbone_state_dict",
    "copy_into",
    "digest_of",
    "load_backbone",
    "read_state_dict",
]

NESTED = (
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema"),
    *("state_dict", "model_state_dict", "model", "network", "net", "module", "backbone"),
)
"""Where training scripts put the weights among other things. A moving average goes first: it is
what was tested."""

EXTRA_STATE = "_extra_state"  # how keys of what `get_extra_state` returns end, tensor or not

#: Parts of a key that name what stood around a module, not the network's own parts.
OUTER = {"host", *AROUND.values()}
#: In a key of attention's.
ATTENTION = re.compile(r"(^|\.)(attn\w*|attention)\.(gamma$|block\.)")

SHOWN = 8  # keys of each kind that a message lists


@dataclass(frozen=True)
class LoadReport:
    """What `load_backbone` did not transfer; all empty when everything was.

    Attributes:
        loaded: how many tensors were transferred.
        missing: plain keys of the model that the state dict lacks.
        unexpected: keys of the state dict that the model lacks.
        mismatched: keys whose shapes differ, with both shapes.
        nesting: where in what was given the weights were, such as `"state_dict"`; "" is at the
            top.
        prefix: what the keys began with, such as `"module."`, and was taken off.
    """

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    nesting: str = ""
    prefix: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything was transferred, both ways."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{counted(self.loaded, 'tensor')} transferred{self.origin}."]
        for title, keys in (
            ("missing from the state dict", self.missing),
            ("not in the model", self.unexpected),
            ("of another shape", self.mismatched),
        ):
            if keys:
                more = f", … ({len(keys)} in all)" if len(keys) > SHOWN else ""
                lines.append(f"{title}: {', '.join(keys[:SHOWN])}{more}")
        return "\n".join(lines)

    @property
    def origin(self) -> str:
        """Where in a checkpoint they were found, in words; "" where there is nothing to say."""
        nested = f" from {self.nesting!r}" if self.nesting else ""
        return nested + (f" without the prefix {self.prefix!r}" if self.prefix else "")


@dataclass(frozen=True)
class StateDict:
    """Weights as a network of certain keys takes them.

    Attributes:
        tensors: key → tensor, or what a module's `get_extra_state` returned.
        nesting, prefix: as in `LoadReport`.
    """

    tensors: Mapping[str, Any]
    nesting: str = ""
    prefix: str = ""


def read_state_dict(source: Any, keys: Iterable[str]) -> StateDict:
    """The weights in a file or a checkpoint, with the names that a network has for them.

    Args:
        source: path of a `.safetensors` file or of one that `torch.save` wrote, which is read
            with `weights_only=True`; or what is in such a file: a state dict, or a mapping that
            holds one.
        keys: of the network's state dict, which tell whether there is a prefix.

    Raises:
        CheckpointError: there is no such file, it cannot be read without running code of its own,
            or holds no state dict.
    """
    owner = "the checkpoint"
    if isinstance(source, str | os.PathLike):
        owner = str(source)
        source = _read(Path(source).expanduser())
    nesting: list[str] = []
    while not _is_state_dict(source):
        source, name = _inner(source, owner)
        nesting.append(name)
    tensors = {
        key: part
        for key, part in source.items()
        if isinstance(part, Tensor) or key.endswith(EXTRA_STATE)
    }
    known = set(keys)
    prefix = _prefix(tensors, known)
    tensors = {_plain(key.removeprefix(prefix), known): part for key, part in tensors.items()}
    return StateDict(tensors, ".".join(nesting), prefix)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights {str(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no weights are taken for anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        # torch's own advice is to read it without the check.
        if "weights_only" in str(error) or isinstance(error, pickle.UnpicklingError):
            reason = (
                "it holds more than tensors, or a whole network, and reading it could run any "
                "code. Where it comes from a source that you trust, save its state_dict() by "
                "itself."
            )
        raise CheckpointError(f"{str(path)!r} cannot be read as weights: {reason}") from error


def _is_state_dict(value: Any) -> bool:
    """Whether most of it is tensors: some networks keep other state of theirs beside them."""
    parts = list(value.values()) if isinstance(value, Mapping) else []
    return 2 * sum(isinstance(part, Tensor) for part in parts) > len(parts)


def _inner(value: Any, owner: str) -> tuple[Any, str]:
    """The part of a checkpoint that holds its weights, and that part's name."""
    parts = value if isinstance(value, Mapping) else {}
    holding = [name for name, part in parts.items() if _holds_state_dict(part)]
    named = [name for name in NESTED if name in holding]
    found = named or (holding if len(holding) == 1 else [])
    if not found:
        held = ", ".join(map(str, list(parts)[:SHOWN])) or type(value).__name__
        raise CheckpointError(
            f"{owner} holds no state dict: {held}. A state dict is a mapping from names to "
            f"tensors, at the top or under {', '.join(map(repr, NESTED[4:7]))}."
        )
    return parts[found[0]], str(found[0])


def _holds_state_dict(value: Any) -> bool:
    if _is_state_dict(value):
        return True
    return isinstance(value, Mapping) and any(map(_holds_state_dict, value.values()))


def _prefix(tensors: Iterable[str], known: set[str]) -> str:
    """What most keys have to lose to be known ones; "" where that is nothing, or helps little."""
    counted: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in known:
                counted["".join(f"{part}." for part in parts[:cut])] += 1
    if not counted:
        return ""
    best = max(counted, key=lambda prefix: (counted[prefix], -len(prefix)))
    # A few keys of another network are alike by chance.
    return best if 2 * counted[best] >= len(known) else ""


def _plain(key: str, known: set[str]) -> str:
    """The key without what stood around a part of the network when it was saved."""
    if key in known:
        return key
    inside = ".".join(part for part in key.split(".") if part not in OUTER)
    return inside if inside in known else key


def backbone_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict the model would have without attention: plain keys, no attention weights.

    Tensors are the model's own, as in `state_dict()`. A plain model takes it with `strict=True`.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual")
        >>> plain = torchvision.models.resnet18()
        >>> plain.load_state_dict(attnzoo.backbone_state_dict(model), strict=True)
        <All keys matched successfully>
    """
    view = _without_attention(bare(model))
    names = PlainNames(view)
    return {names.plain(key): value for key, value in view.state_dict().items()}


def load_backbone(
    model: nn.Module,
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    strict: bool = True,
) -> LoadReport:
    """Load plain weights, such as a pretrained checkpoint, into a wrapped model.

    Attention weights stay as they are.

    Args:
        model: wrapped or plain. On the meta device its tensors are taken from `state_dict`.
        state_dict: plain keys. Also a checkpoint that holds them under `state_dict`, `model`,
            `ema` and the like, with a prefix such as `module.`, `_orig_mod.` or `backbone.`; or
            the path of a file: safetensors, or one of `torch.save`'s, which is read with
            `weights_only=True`.
        strict: whether every key and shape must match; nothing is loaded if one does not.

    Returns:
        What was not transferred, with `strict` always nothing, and where it was found.

    Raises:
        CheckpointError: the file cannot be read; no tensor fits; or, with `strict`, a key is
            missing, unexpected, or of another shape.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual")
        >>> weights = torchvision.models.resnet18().state_dict()
        >>> trained = {"epoch": 90, "state_dict": {f"module.{k}": v for k, v in weights.items()}}
        >>> print(attnzoo.load_backbone(model, trained))
        122 tensors transferred from 'state_dict' without the prefix 'module.'.
    """
    own = backbone_state_dict(model)
    found = read_state_dict(state_dict, own)
    given = found.tensors
    mismatched = {
        key: f"{key} ({_shape(given[key])} for {_shape(own[key])})"
        for key in own
        if key in given and _shape(given[key]) != _shape(own[key])
    }
    matching = [key for key in own if key in given and key not in mismatched]
    report = LoadReport(
        loaded=len(matching),
        missing=tuple(key for key in own if key not in given),
        unexpected=tuple(key for key in given if key not in own),
        mismatched=tuple(mismatched.values()),
        nesting=found.nesting,
        prefix=found.prefix,
    )
    # Every norm counts its batches alike.
    fits = any(isinstance(given[key], Tensor) and given[key].ndim for key in matching)
    if not fits or (strict and not report.complete):
        more = (
            "With strict=False what fits is loaded, and the rest is reported."
            if fits
            else "Not one tensor fits: these are another network's weights."
        )
        attention = [key for key in report.unexpected if ATTENTION.search(key)]
        if attention and fits:
            more = (
                f"{len(attention)} of these keys are attention's: the state dict is of a network "
                f"with attention. Into one that is wrapped by the same recipe, load_state_dict "
                f"loads all of it; here, strict=False loads the backbone alone."
            )
        raise CheckpointError(
            f"the state dict does not fit {type(model).__name__}; nothing was loaded.\n"
            f"{str(report).partition(chr(10))[2]}\n{more}"
        )
    copy_into(model, {key: given[key] for key in matching})
    return report


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Of names and bytes of all tensors, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def copy_into(model: nn.Module, plain: Mapping[str, Any]) -> None:
    """Copy tensors by plain key into the model, modules put aside included."""
    view = _without_attention(bare(model))
    on_meta = any(t.is_meta for t in (*view.parameters(), *view.buffers()))
    own, names = view.state_dict(), PlainNames(view)
    given = {
        key: cut_like(plain[names.plain(key)], value)
        for key, value in own.items()
        if names.plain(key) in plain
    }
    with torch.no_grad():
        view.load_state_dict(given, strict=False, assign=on_meta)


def _without_attention(module: nn.Module, known: dict[int, nn.Module] | None = None) -> nn.Module:
    """The module tree as it is without attention, to read and write its state by; never to be run.

    Modules with attention below them are other objects that share their parameters, buffers and
    hooks with the model's; all others are the model's own. So every name that a tensor has is
    plain, in however many places its module is registered, and hooks on state dicts do what they
    do in the plain network.
    """
    known = {} if known is None else known
    if id(module) in known:
        return known[id(module)]
    known[id(module)] = module  # a module may hold itself
    if isinstance(module, Attended | Replaced):
        host = module.host if isinstance(module, Attended) else module.original
        plain = _without_attention(host, known)
    else:
        children = {
            name: child if child is None else _without_attention(child, known)
            for name, child in module._modules.items()
            if not isinstance(child, Attention)
        }
        plain = module
        if any(child is not children.get(name) for name, child in module._modules.items()):
            plain = object.__new__(type(module))
            plain.__dict__.update(module.__dict__, _modules=children)
    known[id(module)] = plain
    return plain


def _shape(value: Any) -> tuple[int, ...] | None:
    """Of a tensor; a state dict may hold other state, which has none."""
    return tuple(value.shape) if isinstance(value, Tensor) else None
