"""What the networks of a study began with, in sentences that can stand in a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnzoo.study.runs import Record

__all__ = ["beginnings"]

NOTED = "weights: "  # how runs begin what they note of their weights


def beginnings(records: Sequence[Record], classes: int | None) -> list[str]:
    """A sentence or two a backbone: which weights, what was replaced or held fixed, what it saw.

    Args:
        records: finished runs.
        classes: of the data, where they are known.
    """
    found: dict[str, dict[str, None]] = {}
    for record in records:
        said = f"{_weights(record, classes)}{_held(record)} {_images(record)}".strip()
        found.setdefault(record.result.backbone, {})[said] = None
    return [f"{backbone} {said}" for backbone, several in found.items() for said in several]


def _weights(record: Record, classes: int | None) -> str:
    result, spec = record.result, record.spec
    if result.weights_note:
        told, *more = result.weights_note.removeprefix(NOTED).split("\n")
        told = told.rstrip(".")
        if told.endswith("replaced"):
            told += " by a fresh one" + (f" of {classes}" if classes else "")
        return " ".join([f"began with trained weights: {told}.", *more])
    library = spec.backbone.partition("/")[0]
    if ":" in spec.backbone:
        return "began with the weights that its function gives it."
    if spec.backbone_options.get("pretrained") or spec.building.get("weights"):
        return f"began with weights of {library}'s that its runs did not note."
    return "began with fresh weights, drawn from the seed."


def _held(record: Record) -> str:
    train = record.spec.train
    if train.freeze is None:
        return ""
    parts = {"all": "Everything but attention", "backbone": "Everything but attention and head"}
    held = parts.get(train.freeze, f"Everything up to {train.freeze}")
    until = "".join(f", from epoch {epoch} on not {path}" for epoch, path in train.unfreeze.items())
    return f" {held} was held fixed{until}."


def _images(record: Record) -> str:
    told: Mapping[str, Any] = record.result.input
    if not told:
        return ""
    parts = [f"interpolation {told['interpolation']}"] if told.get("interpolation") else []
    parts += [
        f"{name} {', '.join(f'{value:g}' for value in told[key])}"
        for key, name in (("mean", "mean"), ("std", "standard deviation"))
        if told.get(key)
    ]
    if told.get("test_crop", 1) != 1:
        parts.append(f"the middle {100 * told['test_crop']:g}% in testing")
    size = f" of {told['size']}×{told['size']} pixels" if told.get("size") else ""
    return f"It was given images{size} ({'; '.join(parts)})."
