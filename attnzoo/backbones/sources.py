"""Where a network's trained weights come from: what `weights` can say, read and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torchvision

from attnzoo.backbones.naming import Named, find_backbone
from attnzoo.backbones.packaged import PACKAGED
from attnzoo.checks import did_you_mean
from attnzoo.errors import OptionError

__all__ = ["DEFAULT", "SUFFIXES", "Source", "is_file", "source_of", "weights_digest"]

DEFAULT = "DEFAULT"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True)
class Source:
    """Where trained weights come from.

    Attributes:
        kind: a name of the `"library"`, a `"package"`, or a `"file"`.
        name: the library's own name for the weights: timm's with its tag, torchvision's member of
            the network's enumeration; the package's key; or of a file timm's name of the network.
        path: of the file, or None.
    """

    kind: Literal["library", "package", "file"]
    name: str
    path: Path | None = None

    def __str__(self) -> str:
        return self.name if self.path is None else self.path.name


def is_file(weights: object) -> bool:
    """Whether `weights` names a file, and no weights of a library's."""
    text = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
    return isinstance(text, str) and (text.endswith(SUFFIXES) or "/" in text)


def source_of(
    named: Named, weights: Any, options: Mapping[str, Any]
) -> tuple[Source | None, dict[str, Any]]:
    """Where the weights come from, None for fresh ones; and the options left for the builder.

    `pretrained=True` among the options is `weights="DEFAULT"`. A function of yours that has an
    option `weights` itself is given what is no file.

    Raises:
        OptionError: the network has no such weights; those that it has are listed.
    """
    rest = dict(options)
    asked = named.library != "own" and rest.pop("pretrained", False)
    if weights is True or (asked and weights is None):
        weights = DEFAULT
    if named.library == "pretrained":
        if weights not in (None, DEFAULT):
            raise OptionError(
                f"backbone {named.name!r} brings its own weights; for weights={weights!r} take "
                f"'timm/{PACKAGED[named.model].network}'."
            )
        return Source("package", named.model), rest
    if weights is None or weights is False:
        return None, rest
    if is_file(weights):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise OptionError(
                f"backbone {named.name!r}: there is no file of weights {str(path)!r}."
            )
        return Source("file", named.model, path), rest
    if named.library == "own":
        if "weights" in named.parameters:
            return None, {**rest, "weights": weights}
        raise OptionError(
            f"backbone {named.name!r}: weights={weights!r} is no file ({', '.join(SUFFIXES)}), and "
            f"the function has no option weights to be given it."
        )
    if named.library == "torchvision":
        return Source("library", _of_torchvision(named, weights)), rest
    return Source("library", _of_timm(named, str(weights))), rest


def weights_digest(name: str, weights: Any, options: Mapping[str, Any]) -> str:
    """What tells a backbone's weights from others: of a file its bytes, else their full name.

    Fresh weights have none: "".

    Raises:
        UnknownNameError, OptionError: no such network, or no such weights.
    """
    source, _ = source_of(find_backbone(name), weights, options)
    if source is None:
        return ""
    if source.path is None:
        return source.name
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _of_torchvision(named: Named, weights: Any) -> str:
    enum = torchvision.models.get_model_weights(named.model)
    if isinstance(weights, enum):
        return weights.name
    text = str(weights).rpartition(".")[2]
    names = [member.name for member in enum]
    if text == DEFAULT and names:
        return enum[DEFAULT].name
    if text not in names:
        raise _unknown(named, weights, names)
    return text


def _of_timm(named: Named, weights: str) -> str:
    """The weights' name in timm, `architecture.tag`."""
    architecture, _, tag = named.model.partition(".")
    known = timm.list_models(f"{architecture}.*", pretrained=True)
    if weights == DEFAULT:
        if known or timm.get_pretrained_cfg(named.model) is not None:
            return named.model if tag or not known else _default(architecture, known)
        raise _unknown(named, weights, [])
    wanted = f"{architecture}.{weights.removeprefix(f'{architecture}.')}"
    if wanted not in known:
        raise _unknown(named, weights, [name.partition(".")[2] for name in known])
    return wanted


def _default(architecture: str, known: list[str]) -> str:
    config = timm.get_pretrained_cfg(architecture)
    full = f"{architecture}.{config.tag}" if config is not None and config.tag else architecture
    return full if full in known else architecture


def _unknown(named: Named, weights: Any, known: list[str]) -> OptionError:
    listed = f"It has: {', '.join(known)}, and DEFAULT." if known else "It has none."
    return OptionError(
        f"backbone {named.name!r} has no weights={weights!r}.{did_you_mean(str(weights), known)} "
        f"{listed} A file of weights ends in {', '.join(SUFFIXES)}."
    )
