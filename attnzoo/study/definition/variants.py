"""Variants of a study: with training options of their own, products of axes, and exclusions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from attnzoo.checks import did_you_mean
from attnzoo.train import Variant

__all__ = [
    "EXCLUSION_KEYS",
    "PLAIN",
    "PRODUCT",
    "StudyVariant",
    "excludes",
    "product_entries",
    "product_faults",
    "product_size",
    "train_text",
]

PLAIN = "plain"
"""How a study file asks for the backbone without attention."""

PRODUCT = "product"
"""The one key of an entry of `variants` that stands for all combinations of its axes."""

NESTED = ("options", "train")
"""Axes that hold axes."""

AXES = ("policy", "block", "start", *NESTED)
EXCLUSION_KEYS = ("backbone", "variant", *AXES)


class StudyVariant(Variant):
    """A variant that may be trained in its own way.

    Attributes:
        train: what to change in the study's and the backbone's training for this variant.
    """

    train: dict[str, Any] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name, or one made from what it holds."""
        return self.name or super().title + train_text(self.train)

    @property
    def in_run(self) -> Variant:
        """The same for one run, whose description has its training elsewhere."""
        name = self.title if self.train else self.name
        return Variant.model_validate({**self.model_dump(exclude={"train"}), "name": name})


def train_text(train: Mapping[str, Any]) -> str:
    """What the training options of a variant add to its title."""
    return "".join(f" {key}={value}" for key, value in train.items())


def product_faults(axes: Any, place: str) -> list[str]:
    """What is wrong with the axes of a product, apart from the values on them."""
    if not isinstance(axes, Mapping) or "policy" not in axes:
        return [f"{place}: must be a mapping with policy and others of {', '.join(AXES)}."]
    wrong = [
        f"{place}.{key}: there is no such axis.{did_you_mean(str(key), AXES)} "
        f"There are: {', '.join(AXES)}."
        for key in axes
        if key not in AXES
    ]
    wrong += [
        f"{place}.{key}: must be a mapping whose values are lists of choices (given: "
        f"{axes[key]!r})."
        for key in NESTED
        if not isinstance(axes.get(key, {}), Mapping)
    ]
    if not wrong:
        wrong = [
            f"{place}.{'.'.join(path)}: a list of choices needs at least one."
            for path, choices in _axes(axes)
            if not choices
        ]
    return wrong


def product_size(axes: Mapping[str, Any]) -> int:
    """How many combinations there are of the axes' choices."""
    return math.prod(len(choices) for _, choices in _axes(axes))


def product_entries(axes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the axes' choices, the last axis changing fastest.

    A list is a list of choices; anything else is the only choice. Plain has no block, so what
    differs in the block alone is one entry.

    Example:
        >>> product_entries({"policy": "auto", "block": ["se", "cbam"], "train": {"lr": [1, 2]}})[1]
        {'policy': 'auto', 'block': 'se', 'train': {'lr': 2}}
    """
    flat = _axes(axes)
    entries: list[dict[str, Any]] = []
    plain: set[str] = set()
    for combination in itertools.product(*(choices for _, choices in flat)):
        entry: dict[str, Any] = {}
        for (path, _), choice in zip(flat, combination, strict=True):
            inner = entry.setdefault(path[0], {}) if len(path) > 1 else entry
            inner[path[-1]] = choice
        if entry["policy"] == PLAIN:
            entry = {key: entry[key] for key in ("policy", "train") if key in entry}
            if (told := repr(entry)) in plain:
                continue
            plain.add(told)
        entries.append(entry)
    return entries


def _axes(axes: Mapping[str, Any]) -> list[tuple[tuple[str, ...], list[Any]]]:
    found = []
    for key, value in axes.items():
        if key in NESTED:
            found += [((key, str(name)), _choices(inner)) for name, inner in value.items()]
        else:
            found.append(((key,), _choices(value)))
    return found


def _choices(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def excludes(exclusion: Mapping[str, Any], backbone: str, variant: StudyVariant) -> bool:
    """Whether all that `exclusion` says holds for this pair. Plain is never excluded.

    A list matches any of its items, and a policy's name matches it with any options.
    """
    if variant.policy is None:
        return False
    facts = {"backbone": backbone, "variant": variant.title, **variant.model_dump()}
    return all(_matches(wanted, facts[key]) for key, wanted in exclusion.items())


def _matches(wanted: Any, value: Any) -> bool:
    if wanted == value:
        return True
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _matches(inner, value[key]) for key, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return any(_matches(item, value) for item in wanted)
    with_options = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    return with_options and isinstance(value[1], Mapping) and wanted == value[0]
