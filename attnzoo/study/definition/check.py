"""Checking a study before anything is trained: every backbone × variant, without memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnzoo.api import plan
from attnzoo.backbones import draft_backbone
from attnzoo.costs import cost
from attnzoo.errors import AttnzooError, StudyError
from attnzoo.study.definition.grid import Backbone, Study
from attnzoo.study.definition.variants import StudyVariant
from attnzoo.tracing import probe
from attnzoo.train import policy_argument

__all__ = ["Cell", "check_study"]


@dataclass(frozen=True)
class Cell:
    """One backbone with one variant.

    Attributes:
        sites: blocks that are put in.
        parameters, macs: of the whole network, for one image.
        added_parameters, added_macs: of that, the attention's.
    """

    backbone: Backbone
    variant: StudyVariant
    sites: int
    parameters: int
    macs: int
    added_parameters: int
    added_macs: int


def check_study(study: Study, classes: int) -> list[Cell]:
    """See that every backbone can be built, takes the images, and has a place for every variant.

    Nothing is computed: the networks hold no memory.

    Returns:
        What each backbone and variant comes to, in the study's order.

    Raises:
        StudyError: listing every combination that would fail.
    """
    cells: list[Cell] = []
    found = list(dict.fromkeys(run.freezing_fault for run in study.runs if run.freezing_fault))
    for backbone in study.backbones:
        try:
            model = _model(study, backbone, classes)
        except StudyError as error:
            found.append(str(error))
        else:
            cells += _cells(study, backbone, model, found)
    if found:
        raise StudyError(
            f"study {study.name!r} cannot be run.\n" + "\n".join(f"- {fault}" for fault in found)
        )
    return cells


def _model(study: Study, backbone: Backbone, classes: int) -> nn.Module:
    run = study.run(backbone, study.variants_of(backbone)[0], study.seeds[0])
    try:
        options: dict[str, Any] = {"num_classes": classes, **run.building}
        with torch.random.fork_rng(devices=[]):
            shape = run.shape
            model = draft_backbone(
                backbone.name, channels=shape[0], example=(3, *shape[1:]), **options
            ).eval()
    except AttnzooError as error:
        raise StudyError(str(error)) from error
    except SystemExit as error:
        raise StudyError(f"{backbone.name} ends the program (sys.exit).") from error
    except Exception as error:
        raise StudyError(
            f"{backbone.name} cannot be built: {type(error).__name__}: {error}".partition("\n")[0]
        ) from error
    try:
        trace = probe(model, torch.empty(2, *shape, device="meta"))
    except AttnzooError as error:
        cause = error.__cause__ or error
        raise StudyError(
            f"{backbone.name} fails on images of {shape[1]}×{shape[2]}: "
            f"{type(cause).__name__}: {cause}".partition("\n")[0]
        ) from error
    shapes = [trace.values[output].shape for output in trace.outputs]
    if not trace.stopped and shapes != [(2, classes)]:
        raise StudyError(
            f"{backbone.name} must return scores of shape (N, {classes}), one per class."
        )
    return model


def _cells(study: Study, backbone: Backbone, model: nn.Module, found: list[str]) -> list[Cell]:
    """What can be put into a backbone; to `found` is added what can't."""
    shape = study.run(backbone, study.variants_of(backbone)[0], study.seeds[0]).shape
    whole = cost(model, shape)
    cells = []
    faults: dict[str, str] = {}  # a control meets its block's fault again
    planned: dict[str, tuple[int, int, int]] = {}  # variants may differ in their training alone
    for variant in study.variants_of(backbone):
        key = variant.model_copy(update={"name": "", "train": {}}).model_dump_json()
        if variant.policy is None:
            planned[key] = 0, 0, 0
        elif key not in planned:
            try:
                made = plan(
                    model,
                    policy_argument(variant.policy),
                    variant.block,
                    start=variant.start,
                    example=shape,
                    strict=study.strict,
                    **variant.options,
                )
                planned[key] = len(made.sites), made.parameters, made.macs
            except Exception as error:  # a policy or a block of somebody's may raise anything
                told = str(error) if isinstance(error, AttnzooError) else repr(error)
                faults.setdefault(told, f"{backbone.name}, {variant.title}: {told}")
                continue
        sites, parameters, macs = planned[key]
        cells.append(
            Cell(
                backbone=backbone,
                variant=variant,
                sites=sites,
                parameters=whole.parameters + parameters,
                macs=whole.macs + macs,
                added_parameters=parameters,
                added_macs=macs,
            )
        )
    found += faults.values()
    return cells
