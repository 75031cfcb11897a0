"""A study file → Study. All of its faults are reported at once, each with its line.

What a comparison needs is added: the plain network, and controls of equal capacity.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from attnzoo.checks import counted, did_you_mean
from attnzoo.errors import StudyError
from attnzoo.study.definition.controls import CONTROLS, ControlName, with_baselines
from attnzoo.study.definition.entries import MOST_RUNS, items_of, read_variants, shown
from attnzoo.study.definition.grid import Backbone, Study
from attnzoo.study.definition.judging import judgement_faults, read_seeds, settled_metric
from attnzoo.study.definition.lines import Source, check_extent, read_yaml
from attnzoo.study.definition.variants import (
    EXCLUSION_KEYS,
    StudyVariant,
    excludes,
)
from attnzoo.train import Keep, TrainRecipe, data_faults, faults

__all__ = ["load_study", "parse_study"]

LONGEST_NAME = 200  # bytes; file systems take 255


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML file; a data folder in it is relative to the file.

    Modules beside the file can be imported from then on, so that a backbone or a data set can be
    a function of yours there.

    Raises:
        StudyError: the file cannot be read, or is wrong; the message lists every fault.
    """
    path = Path(path)
    content, source = read_yaml(path)
    beside = str(path.parent.resolve())
    if beside not in sys.path:
        sys.path.append(beside)
    return _parse(content, source, path.parent)


def parse_study(content: Any, *, source: str = "study", base: str | Path = ".") -> Study:
    """A study from plain dicts and lists. See `load_study`; `base` is where data folders start.

    Plain and the controls asked for are added to its variants where they are not there.

    Raises:
        StudyError: it is wrong; the message lists every fault.
    """
    return _parse(content, Source(source), Path(base))


def _parse(content: Any, source: Source, base: Path) -> Study:
    check_extent(content, source.name)
    if not isinstance(content, Mapping):
        raise StudyError(
            f"{source.name}: a study is a mapping with keys {', '.join(Study.model_fields)}."
        )
    content = {"name": Path(source.name).stem, **content}
    if content.get("question", "") is None:  # a key with nothing behind it
        content["question"] = ""
    found = list(source.faults)
    # `look_from` is told with the seeds, and digests are no matter of the file.
    known = [key for key in Study.model_fields if key not in ("look_from", "digests")]
    for key in content:
        if key not in known:
            found.append(
                f"{key}: there is no such key.{did_you_mean(str(key), known)} "
                f"There are: {', '.join(known)}."
            )
    data = _data(content, found)
    train: Any = content.get("train") or {}
    train_faults = _train_faults(train, "train")
    found += train_faults
    backbones = _backbones(content, found)
    variants = read_variants(content, found)
    if not train_faults:
        found += _training_together(train, backbones, variants)
    seeds, look_from = read_seeds(content.get("seeds", [0]), found)
    controls = _controls(content.get("controls", True), found)
    found += [
        f"{key}: must be true or false (given: {shown(content[key])})."
        for key in ("measure", "strict")
        if not isinstance(content.get(key, False), bool)
    ]
    if content.get("keep", "attention") not in get_args(Keep):
        found.append(
            f"keep: must be one of {', '.join(get_args(Keep))} (given: {content['keep']!r})."
        )
    found += judgement_faults(content)
    if look_from is not None and isinstance(data, Mapping) and data.get("split"):
        found.append(
            "seeds: until: decided does not go with split: by seed, whose differences hang "
            "together; write a list."
        )
    if not isinstance(content.get("question", ""), str):
        found.append(f"question: must be a text (given: {shown(content['question'])}).")
    found += _name_faults(content["name"])
    exclude = _exclude(content, found)
    if not found:
        named = [(place, entry["name"]) for place, entry in backbones]
        titled = [(place, variant.title) for place, variant in variants]
        found += [*_twice("backbones", named), *_twice("variants", titled)]
        count = len(backbones) * len(variants) * len(seeds)
        if count > MOST_RUNS:
            found.append(f"{count:,} runs are asked for; at most {MOST_RUNS:,} are possible.")
    if found:
        _refuse(found, source)
    study = _validated(
        {
            **content,
            "data": data,
            "train": train,
            "seeds": seeds,
            "metric": settled_metric(content),
            "look_from": look_from,
            "backbones": [entry for _, entry in backbones],
            "variants": [variant for _, variant in variants],
            "controls": controls,
            "exclude": [],
        },
        source,
    )
    return _complete(study, exclude, source).placed(base.resolve())


def _name_faults(name: Any) -> list[str]:
    """What is wrong with the name of a study, which is also that of its folder."""
    if not isinstance(name, str) or not name.strip():
        return [f"name: must be a text (given: {shown(name)})."]
    if name in (".", "..") or any(c in "/\\" or not (c.isprintable()) for c in name):
        return [
            f"name: is also the folder's, and must be one line without / and \\ (given: "
            f"{shown(name)})."
        ]
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        return [f"name: must be at most {LONGEST_NAME} bytes long (given: {shown(name)})."]
    return []


def _refuse(found: Sequence[str], source: Source) -> None:
    found = [source.locate(fault) for fault in dict.fromkeys(found)]
    count = counted(len(found), "fault")
    raise StudyError(f"{source.name}: {count}.\n" + "\n".join(f"- {fault}" for fault in found))


def _validated(content: Mapping[str, Any], source: Source) -> Study:
    """The study; what was not looked at by itself is looked at here."""
    try:
        study = Study.model_validate(content)
        study.model_dump_json()  # what JSON has not could not be kept in the folder
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyError(f"{source.name}: {error}") from error
    return study


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
    return _validated({**dict(study), "variants": variants, "exclude": used}, source)


def _twice(kind: str, named: Sequence[tuple[str, str]]) -> list[str]:
    """A fault for each name that is there again."""
    times = Counter(name for _, name in named)
    places = {name: place for place, name in named}  # the last one's
    return [
        f"{places[name]}: {name!r} is there twice under {kind}; runs are told apart by it."
        for name in times
        if times[name] > 1
    ]


def _data(content: Mapping[str, Any], found: list[str]) -> Any:
    data = content.get("data")
    if data is None:
        found.append("data: this key is required, e.g. data: {name: cluttered-digits}.")
        return None
    if isinstance(data, Mapping) and not isinstance(data.get("name"), Hashable):
        found.append(f"data.name: must be a text (given: {shown(data['name'])}).")
        return None
    given = data.get("root") if isinstance(data, Mapping) else None
    if isinstance(given, str):
        try:
            Path(given).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as error:  # no such home, a circle of links
            found.append(f"data.root: {shown(given)} is no folder: {error}.")
            return None
    found += data_faults(data, "data")
    return data


def _backbones(content: Mapping[str, Any], found: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """`(place, entry)` for each that is right in itself."""
    entries = []
    for place, item in items_of(content, "backbones", "torchvision/resnet18", found):
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
