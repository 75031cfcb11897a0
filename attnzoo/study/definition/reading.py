"""A study file → Study. All of its faults are reported at once, each with its line.

What a comparison needs is added: the plain network, and controls of equal capacity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnzoo.checks import did_you_mean
from attnzoo.errors import AttnzooError, StudyError
from attnzoo.study.definition.controls import CONTROLS, ControlName, with_baselines
from attnzoo.study.definition.grid import Backbone, Study
from attnzoo.study.definition.judging import judgement_faults, read_seeds
from attnzoo.study.definition.lines import Source, read_yaml
from attnzoo.study.definition.variants import (
    EXCLUSION_KEYS,
    PLAIN,
    PRODUCT,
    StudyVariant,
    excludes,
    product_entries,
    product_faults,
)
from attnzoo.surgery import parse_recipe
from attnzoo.train import TrainRecipe, Variant, data_faults, faults, policy_argument

__all__ = ["load_study", "parse_study"]


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML file; a data folder in it is relative to the file.

    Raises:
        StudyError: the file cannot be read, or is wrong; the message lists every fault.
    """
    path = Path(path)
    content, source = read_yaml(path)
    return _parse(content, source, path.parent)


def parse_study(content: Any, *, source: str = "study", base: str | Path = ".") -> Study:
    """A study from plain dicts and lists. See `load_study`; `base` is where data folders start.

    Plain and the controls asked for are added to its variants where they are not there.

    Raises:
        StudyError: it is wrong; the message lists every fault.
    """
    return _parse(content, Source(source), Path(base))


def _parse(content: Any, source: Source, base: Path) -> Study:
    if not isinstance(content, Mapping):
        raise StudyError(
            f"{source.name}: a study is a mapping with keys {', '.join(Study.model_fields)}."
        )
    content = {"name": Path(source.name).stem, **content}
    found = list(source.faults)
    known = [key for key in Study.model_fields if key != "look_from"]  # which is told with seeds
    for key in content:
        if key not in known:
            found.append(
                f"{key}: there is no such key.{did_you_mean(str(key), known)} "
                f"There are: {', '.join(known)}."
            )
    data = _data(content, found, base)
    train: Any = content.get("train") or {}
    train_faults = _train_faults(train, "train")
    found += train_faults
    backbones = _backbones(content, found)
    variants = _variants(content, found)
    if not train_faults:
        found += _training_together(train, backbones, variants)
    seeds, look_from = read_seeds(content.get("seeds", [0]), found)
    controls = _controls(content.get("controls", True), found)
    if not isinstance(content.get("measure", True), bool):
        found.append(f"measure: must be true or false (given: {content['measure']!r}).")
    found += judgement_faults(content)
    if not (isinstance(content["name"], str) and content["name"].strip()):
        found.append(f"name: must be a text (given: {content['name']!r}).")
    exclude = _exclude(content, found)
    if not found:
        named = [(place, entry["name"]) for place, entry in backbones]
        titled = [(place, variant.title) for place, variant in variants]
        found += [*_twice("backbones", named), *_twice("variants", titled)]
    if found:
        _refuse(found, source)
    study = Study.model_validate(
        {
            **content,
            "data": data,
            "train": train,
            "seeds": seeds,
            "look_from": look_from,
            "backbones": [entry for _, entry in backbones],
            "variants": [variant for _, variant in variants],
            "controls": controls,
            "exclude": [],
        }
    )
    return _complete(study, exclude, source)


def _refuse(found: Sequence[str], source: Source) -> None:
    found = [source.locate(fault) for fault in dict.fromkeys(found)]
    count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
    raise StudyError(f"{source.name}: {count}.\n" + "\n".join(f"- {fault}" for fault in found))


def _complete(study: Study, exclude: Sequence[dict[str, Any]], source: Source) -> Study:
    """The study with its baselines and controls, and without what is excluded everywhere."""

    def out(variant: StudyVariant, backbone: Backbone) -> bool:
        return any(excludes(entry, backbone.name, variant) for entry in exclude)

    kept = [v for v in study.variants if not all(out(v, b) for b in study.backbones)]
    variants = with_baselines(kept, study.controls)
    pairs = [(b.name, v) for b in study.backbones for v in [*study.variants, *variants]]
    idle = [
        f"exclude[{index}]: {entry!r} matches none of the study's variants."
        for index, entry in enumerate(exclude)
        if not any(excludes(entry, *pair) for pair in pairs)
    ]
    if not kept:
        idle.append("exclude: nothing is left of the variants.")
    if idle:
        _refuse(idle, source)
    used = [
        entry
        for entry in exclude
        if any(excludes(entry, b.name, v) for b in study.backbones for v in variants)
    ]
    return Study.model_validate({**dict(study), "variants": variants, "exclude": used})


def _twice(kind: str, named: Sequence[tuple[str, str]]) -> list[str]:
    """A fault for each name that is there again."""
    times = Counter(name for _, name in named)
    places = {name: place for place, name in named}  # the last one's
    return [
        f"{places[name]}: {name!r} is there twice under {kind}; runs are told apart by it."
        for name in times
        if times[name] > 1
    ]


def _data(content: Mapping[str, Any], found: list[str], base: Path) -> Any:
    data = content.get("data")
    if data is None:
        found.append("data: this key is required, e.g. data: {name: cluttered-digits}.")
        return None
    found += data_faults(data, "data")
    if isinstance(data, Mapping) and isinstance(data.get("root"), str):
        root = Path(data["root"]).expanduser()
        return {**data, "root": str(root if root.is_absolute() else (base / root).resolve())}
    return data


def _backbones(content: Mapping[str, Any], found: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """`(place, entry)` for each that is right in itself."""
    entries = []
    for place, item in _items(content, "backbones", "torchvision/resnet18", found):
        entry = {"name": item} if isinstance(item, str) else item
        wrong = faults(Backbone, entry, place)
        found += wrong
        if not wrong:
            entries.append((place, entry))
    return entries


def _train_faults(train: Any, place: str) -> list[str]:
    if isinstance(train, Mapping) and "seed" in train:
        return [f"{place}.seed: a study has seeds of its own; write seeds: [{train['seed']}]."]
    return faults(TrainRecipe, train, place)


def _training_together(
    train: Mapping[str, Any],
    backbones: Sequence[tuple[str, dict[str, Any]]],
    variants: Sequence[tuple[str, StudyVariant]],
) -> list[str]:
    """What is wrong with the study's training as backbones and variants change it."""
    found = []
    for place, entry in backbones:
        found += _train_faults({**train, **entry.get("train", {})}, f"{place}.train")
    if not found:
        for place, variant in variants:
            found += _train_faults({**train, **variant.train}, f"{place}.train")
    if not found:  # some options depend on one another
        for _, entry in backbones:
            for place, variant in variants:
                both = {**train, **entry.get("train", {}), **variant.train}
                wrong = _train_faults(both, f"{place}.train") if variant.train else []
                found += [f"{fault} (with {entry['name']})" for fault in wrong]
    return found


def _variants(content: Mapping[str, Any], found: list[str]) -> list[tuple[str, StudyVariant]]:
    """`(place, variant)` for each that is right in itself; a product is many."""
    variants = []
    for place, item in _items(content, "variants", PLAIN, found):
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
    policy = policy_argument(variant.policy or "auto")
    for part, arguments in (
        ("policy", (policy, "none", variant.start, {})),
        ("block", ("auto", variant.block, variant.start, {})),
        ("options", ("auto", variant.block, variant.start, variant.options)),
    ):
        try:
            parse_recipe(*arguments)
        except AttnzooError as error:
            wrong.append(f"{place}.{part}: {error}")
            if part == "block":
                break
    return wrong


def _exclude(content: Mapping[str, Any], found: list[str]) -> list[dict[str, Any]]:
    entries = content.get("exclude", [])
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) and e for e in entries):
        found.append(
            "exclude: must be a list of mappings, e.g. "
            "[{backbone: torchvision/vgg16, policy: in-residual}]."
        )
        return []
    found += [
        f"exclude[{index}].{key}: there is no such key.{did_you_mean(str(key), EXCLUSION_KEYS)} "
        f"There are: {', '.join(EXCLUSION_KEYS)}."
        for index, entry in enumerate(entries)
        for key in entry
        if key not in EXCLUSION_KEYS
    ]
    return [dict(entry) for entry in entries]


def _controls(controls: Any, found: list[str]) -> tuple[ControlName, ...]:
    if isinstance(controls, bool):
        return CONTROLS if controls else ()
    if not isinstance(controls, list | tuple):
        controls = [controls]
    wrong = [name for name in controls if name not in CONTROLS]
    if wrong:
        found.append(
            f"controls: {wrong[0]!r} is none.{did_you_mean(str(wrong[0]), CONTROLS)} Write "
            f"{' or '.join(f'[{name}]' for name in CONTROLS)}, or false for none."
        )
    return tuple(name for name in CONTROLS if name in controls)


def _items(
    content: Mapping[str, Any], key: str, example: str, found: list[str]
) -> list[tuple[str, Any]]:
    """`(place, item)` for each item of the list that `content[key]` must be."""
    value = content.get(key)
    if not isinstance(value, list) or not value:
        given = "" if value is None else f" (given: {value!r})"
        found.append(f"{key}: must be a list of at least one, e.g. [{example}]{given}.")
        return []
    return [(f"{key}[{index}]", item) for index, item in enumerate(value)]
