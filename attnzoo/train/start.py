"""The network that a run begins with: the backbone from the seed alone, then its attention."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnzoo.api import wrap
from attnzoo.backbones import (
    Built,
    NetworkRecipe,
    TrainedWeights,
    build_backbone,
    draft_backbone,
)
from attnzoo.errors import TraceError
from attnzoo.surgery import refuse_cut_short
from attnzoo.tracing import probe
from attnzoo.train.spec import RunSpec, policy_argument
from attnzoo.weights import digest_of

__all__ = ["Start", "build", "check_followed", "fed_by_data"]


@dataclass(frozen=True)
class Start:
    """A run's network before it is trained.

    Attributes:
        model: with attention, where the run has some.
        fingerprint: hash of the backbone's first weights.
        trained: where these come from, if they were trained before.
    """

    model: nn.Module
    fingerprint: str
    trained: TrainedWeights | None
    recipe: NetworkRecipe


def build(run: RunSpec, classes: int) -> Start:
    """The run's network as it begins.

    The backbone is built first, from the seed alone, so that every variant starts from the same.

    Raises:
        AttnzooError: it cannot be built, does not take the images, or has no place for attention.
    """
    torch.manual_seed(run.train.seed)
    with fed_by_data(run.shape):
        built = _backbone(run, classes)
        fingerprint = digest_of(built.model.state_dict())
        variant = run.variant
        if variant.policy is not None:
            wrap(
                built.model,
                policy_argument(variant.policy),
                variant.block,
                start=variant.start,
                example=run.shape,
                strict=run.strict,
                **variant.options,
            )
    return Start(built.model, fingerprint, built.trained, built.recipe)


@contextmanager
def fed_by_data(shape: tuple[int, int, int]) -> Generator[None]:
    """A network that does not take images of the data is told by what the data can be told."""
    try:
        yield
    except TraceError as error:
        if not error.advice:  # the images are not what it is about
            raise
        channels, *sides = shape
        raise TraceError(
            error.found,
            f"The data make images of {channels}×{'×'.join(map(str, sides))}; their option size, "
            f"and for pictures channels, makes others.",
        ) from error


def check_followed(run: RunSpec, classes: int) -> None:
    """What `build` refuses where the run is `strict`, of a network that is trained already.

    Raises:
        TraceError: its forward pass cannot be followed to its end.
    """
    if run.strict and run.variant.policy is not None:
        with fed_by_data(run.shape):
            model = draft_backbone(run.backbone, **_building(run, classes)).eval()
            refuse_cut_short(probe(model, run.shape))


def _backbone(run: RunSpec, classes: int) -> Built:
    return build_backbone(run.backbone, **_building(run, classes))


def _building(run: RunSpec, classes: int) -> dict[str, Any]:
    channels, *sides = run.shape
    told = {"channels": channels, "example": (3, *sides)}
    return {"num_classes": classes, **run.building, **told}
