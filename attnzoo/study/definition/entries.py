"""The entries of a study file's lists: items, and what each variant of them is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnzoo.errors import AttnzooError
from attnzoo.study.definition.variants import (
    PLAIN,
    PRODUCT,
    StudyVariant,
    product_entries,
    product_faults,
    product_size,
)
from attnzoo.surgery import parse_recipe
from attnzoo.train import Variant, faults, policy_argument

__all__ = ["MOST_RUNS", "items_of", "read_variants", "shown"]

MOST_RUNS = 100_000
SHOWN = 200  # letters of a value in a message


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def items_of(
    content: Mapping[str, Any], key: str, example: str, found: list[str]
) -> list[tuple[str, Any]]:
    """`(place, item)` for each item of the list that `content[key]` must be."""
    value = content.get(key)
    if not isinstance(value, list) or not value:
        given = "" if value is None else f" (given: {shown(value)})"
        found.append(f"{key}: must be a list of at least one, e.g. [{example}]{given}.")
        return []
    return [(f"{key}[{index}]", item) for index, item in enumerate(value)]


def read_variants(content: Mapping[str, Any], found: list[str]) -> list[tuple[str, StudyVariant]]:
    """`(place, variant)` for each that is right in itself; a product is many."""
    variants = []
    for place, item in items_of(content, "variants", PLAIN, found):
        if isinstance(item, str):
            if item == PLAIN:
                variants.append((place, StudyVariant()))
            else:
                found.append(
                    f"{place}: {item!r} is no variant. Write {PLAIN} for no attention, or "
                    f"{{policy: auto, block: local}}."
                )
        elif isinstance(item, Mapping) and PRODUCT in item:
            variants += _product(item, place, found)
        else:
            variants += _variant(item, place, found)
    return variants


def _product(
    item: Mapping[str, Any], place: str, found: list[str]
) -> list[tuple[str, StudyVariant]]:
    inside = f"{place}.{PRODUCT}"
    wrong = product_faults(item[PRODUCT], inside)
    if len(item) > 1:
        others = ", ".join(str(key) for key in item if key != PRODUCT)
        wrong.append(f"{place}: beside {PRODUCT} nothing can stand (given: {others}).")
    found += wrong
    variants = []
    if not wrong and product_size(item[PRODUCT]) > MOST_RUNS:
        wrong = [f"{inside}: is of more than {MOST_RUNS:,} variants."]
        found += wrong
    for entry in [] if wrong else product_entries(item[PRODUCT]):
        faults_of_entry: list[str] = []
        variants += _variant(entry, inside, faults_of_entry)
        found += [_at_choice(fault, item[PRODUCT], entry, inside) for fault in faults_of_entry]
    return variants


def _at_choice(fault: str, axes: Mapping[str, Any], entry: Mapping[str, Any], place: str) -> str:
    """The fault of an entry of a product, at the choice that brought it where that is known."""
    for key in ("policy", "block", "start"):
        start, choices = f"{place}.{key}: ", axes.get(key)
        if fault.startswith(start) and isinstance(choices, list):
            return f"{place}.{key}[{choices.index(entry[key])}]: {fault.removeprefix(start)}"
    return fault


def _variant(item: Any, place: str, found: list[str]) -> list[tuple[str, StudyVariant]]:
    """One variant, or none where it is wrong."""
    plain = isinstance(item, Mapping) and item.get("policy") == PLAIN
    entry = {key: value for key, value in item.items() if key != "policy"} if plain else item
    wrong = faults(StudyVariant, entry, place)
    if not wrong and plain and set(entry) - {"name", "train"}:
        others = ", ".join(sorted(set(entry) - {"name", "train"}))
        wrong = [f"{place}: {PLAIN} has name and train only (given: {others})."]
    if not wrong and not plain and item.get("policy") is None:
        wrong = [f"{place}.policy: this key is required, e.g. policy: auto (or write {PLAIN})."]
    if not wrong and not plain:
        wrong = _recipe_faults(StudyVariant.model_validate(item), place)
    found += wrong
    return [] if wrong else [(place, StudyVariant.model_validate(entry))]


def _recipe_faults(variant: Variant, place: str) -> list[str]:
    """Whether there are such a policy and such a block, with such options."""
    wrong = []
    try:
        assert variant.policy is not None  # plain is no recipe
        policy = policy_argument(variant.policy)
    except AttnzooError as error:
        return [f"{place}.policy: {error}"]
    for part, arguments in (
        ("policy", (policy, "none", variant.start, {})),
        ("block", ("auto", variant.block, variant.start, {})),
        ("options", ("auto", variant.block, variant.start, variant.options)),
    ):
        try:
            parse_recipe(*arguments)
        except Exception as error:  # a policy or a block of somebody's may raise anything
            told = str(error) if isinstance(error, AttnzooError) else repr(error)
            wrong.append(f"{place}.{part}: {told}")
            if part == "block":
                break
    return wrong
