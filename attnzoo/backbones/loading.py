"""Trained weights into a network, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from attnzoo.backbones.head import (
    adapt_input,
    classes_of,
    first_convolution,
    head_of,
    replace_head,
)
from attnzoo.backbones.naming import Named
from attnzoo.backbones.packaged import PACKAGED, load_packaged
from attnzoo.backbones.sources import Source
from attnzoo.errors import CheckpointError, OptionError
from attnzoo.weights import LoadReport, digest_of, load_backbone, read_state_dict

__all__ = ["TrainedWeights", "build_trained", "channels_option"]


@dataclass(frozen=True)
class TrainedWeights:
    """Which trained weights a network was given, and what became of its head.

    Attributes:
        source: the library's name of them, or the file's name.
        digest: of the tensors that were loaded, with their names.
        loading: what was and was not loaded.
        head: paths of the layers that make the scores; empty where none was found.
        head_classes: how many scores the weights are for.
        replaced: whether the head is a fresh one, drawn for other classes.
    """

    source: str
    digest: str
    loading: LoadReport
    head: tuple[str, ...]
    head_classes: int
    replaced: bool = False

    @property
    def total(self) -> int:
        """How many tensors the network has, for as many classes as the weights are for."""
        report = self.loading
        return report.loaded + len(report.missing) + len(report.mismatched)

    def __str__(self) -> str:
        """One sentence for people, or several where something is odd."""
        report = self.loading
        head = ", ".join(self.head)
        lines = [
            f"weights: {report.loaded} of {self.total} tensors of {self.source}{report.origin} "
            f"(digest {self.digest})"
            + (f"; its head {head} of {self.head_classes} classes replaced" * self.replaced)
            + "."
        ]
        if 2 * report.loaded < self.total:
            lines.append("Most do not fit: these may be the weights of another network.")
        return "\n".join([*lines, *str(report).split("\n")[1:]])


def build_trained(
    named: Named, source: Source, options: Mapping[str, Any], channels: int = 3, example: Any = None
) -> tuple[nn.Module, TrainedWeights]:
    """A network with trained weights, and with a fresh head where theirs is for other classes.

    Args:
        named: the network.
        source: of the weights.
        options: of the function that builds it. `num_classes` among them is how many scores the
            network is to return; without it as many as the weights are for.
        channels: of the images.
        example: an image of three channels, as in `attnzoo.wrap`, to find the head by.

    Raises:
        CheckpointError: not one tensor fits, or a file cannot be read.
        OptionError: it cannot be built so; or it needs another head, and none was found.
    """
    options = dict(options)
    num_classes: int | None = options.pop("num_classes", None)
    if source.path is not None:
        must = named.parameters.get("num_classes")
        if must is not None and must.default is must.empty and num_classes is not None:
            options["num_classes"] = num_classes  # the function of yours cannot do without
        model, found = _from_file(named, source, options, channels, example)
    else:
        model, found = _from_library(named, source, options, channels, example)
    example = _of_channels(example, channels)
    if num_classes is None:
        return model, found
    if not found.head:
        try:
            head_of(model, example)
        except OptionError as error:
            raise OptionError(
                f"backbone {named.name!r}: the head of its weights cannot be replaced by one of "
                f"num_classes={num_classes}. {error}"
            ) from error
    if found.replaced or found.head_classes != num_classes:
        found = replace(found, head=replace_head(model, num_classes, example), replaced=True)
    return model, found


def _from_library(
    named: Named, source: Source, options: Mapping[str, Any], channels: int, example: Any
) -> tuple[nn.Module, TrainedWeights]:
    """What a library gives out as trained, whole."""
    if named.library == "torchvision":
        model = named.build({**options, "weights": source.name})
    elif source.kind == "package":
        model = named.build(options)
        load_packaged(PACKAGED[source.name], model)
    else:
        options = {**channels_option(named, channels), **options, "pretrained": True}
        model = replace(named, arguments=(source.name,)).build(options)
    state = model.state_dict()
    digest = digest_of(state)
    report = LoadReport(len(state), (), (), ())
    if channels != 3 and "in_chans" not in options:
        adapt_input(model, channels, example)
    head = _head(model, _of_channels(example, channels))
    told = f"{named.library}/{named.model}, {source}" if named.library == "torchvision" else ""
    told = told or (f"timm/{source}" if source.kind == "library" else named.name)
    if source.kind == "package":
        told += f" ({PACKAGED[source.name].package}: {PACKAGED[source.name].about})"
    return model, TrainedWeights(
        told, digest, report, head, classes_of(model, head[0]) if head else 0
    )


def _from_file(
    named: Named, source: Source, options: Mapping[str, Any], channels: int, example: Any
) -> tuple[nn.Module, TrainedWeights]:
    model = named.build(options)
    given = read_state_dict(source.path, model.state_dict())
    head = _head(model, example)
    classes = _classes_in(given.tensors, head)
    if classes and classes != classes_of(model, head[0]):
        replace_head(model, classes, example)
    fits_already = False
    if channels != 3:
        first = given.tensors.get(f"{first_convolution(model, example)}.weight")
        fits_already = first is not None and first.shape[1] == channels
        if fits_already:
            adapt_input(model, channels, example)
    try:
        report = load_backbone(model, given.tensors, strict=False)
    except CheckpointError as error:
        raise CheckpointError(f"{source.path}: {error}") from error
    report = replace(report, nesting=given.nesting, prefix=given.prefix)
    state = model.state_dict()
    loaded = {k: v for k, v in given.tensors.items() if k in state and k not in report.missing}
    if channels != 3 and not fits_already:
        adapt_input(model, channels, example)
    kept = bool(classes) or not head
    return model, TrainedWeights(
        source=str(source),
        digest=digest_of(loaded),
        loading=report,
        head=head,
        head_classes=classes or (classes_of(model, head[0]) if head else 0),
        replaced=not kept,
    )


def _head(model: nn.Module, example: Any) -> tuple[str, ...]:
    try:
        return head_of(model, example)
    except OptionError:  # detectors have none
        return ()


def _classes_in(tensors: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    """How many classes the weights are for; 0 where they have no head."""
    weights = [tensors.get(f"{path}.weight") for path in head]
    return 0 if not weights or weights[0] is None else weights[0].shape[0]


def _of_channels(example: Any, channels: int) -> Any:
    """An input size of three channels, of so many."""
    return (channels, *example[1:]) if isinstance(example, tuple) else example


def channels_option(named: Named, channels: int) -> dict[str, int]:
    """How the function that builds the network is told; nothing where it cannot be."""
    if channels == 3:
        return {}
    if named.library in ("timm", "pretrained"):
        return {"in_chans": channels}
    known = [option for option in ("in_chans", "in_channels") if option in named.parameters]
    return {known[0]: channels} if known and named.library == "own" else {}
