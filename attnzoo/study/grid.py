"""A study file → backbones × variants × seeds → runs. All of its faults are reported at once.

What a comparison needs is added: the plain network, and controls of equal capacity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from attnzoo.checks import did_you_mean
from attnzoo.errors import AttnzooError, StudyError
from attnzoo.recipe import parse_recipe
from attnzoo.study.controls import CONTROLS, ControlName, control_of, with_baselines
from attnzoo.train.config import Config, faults
from attnzoo.train.data import DataSpec, data_faults
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.spec import RunSpec, Variant, policy_argument

__all__ = ["PLAIN", "Backbone", "Study", "load_study", "parse_study", "study_yaml"]

PLAIN = "plain"
"""How a study file asks for the backbone without attention."""


class Backbone(Config):
    """One backbone of a study.

    Attributes:
        name: as in `attnzoo.create_backbone`.
        options: for the function that builds it.
        train: what to change in the study's training for this backbone.
        size: side of its images in pixels, where it needs another than the study's.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    size: int | None = Field(None, ge=8)


class Study(Config):
    """Backbones × variants × seeds on one data set.

    Attributes:
        name: of the study, and of its folder.
        question: what it is to answer, for the report.
        data: what to train and test on.
        train: how; a backbone may change parts of it.
        seeds: one run per backbone, variant and seed.
        backbones: what attention is put into.
        variants: what is put in, baselines and controls included.
        controls: which controls `parse_study` adds for every attention block: `conv`, of its
            size, and `affine`, of the smallest.
        difference_points: the difference in top-1, in percentage points, that the study is to be
            able to see; how many more seeds that takes is told by the report.
        measure: whether to measure latency, throughput and memory once the runs are done.
    """

    name: str
    question: str = ""
    data: DataSpec = Field(discriminator="name")
    train: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    backbones: tuple[Backbone, ...]
    variants: tuple[Variant, ...]
    controls: tuple[ControlName, ...] = CONTROLS
    difference_points: float = Field(1.0, gt=0, le=100)
    measure: bool = True

    @property
    def controlled(self) -> dict[str, str]:
        """Title of a variant → title of the control that it is compared with."""
        pairs = ((variant, control_of(variant, self.variants)) for variant in self.variants)
        return {variant.title: control.title for variant, control in pairs if control}

    def data_of(self, backbone: Backbone) -> DataSpec:
        """The study's data, at the backbone's image size."""
        return self.data.model_copy(update={"size": backbone.size or self.data.size})

    @property
    def runs(self) -> list[RunSpec]:
        """All runs, those to be compared with one another side by side."""
        return [
            RunSpec(
                backbone=backbone.name,
                backbone_options=backbone.options,
                variant=variant,
                data=self.data_of(backbone),
                train=TrainRecipe.model_validate({**self.train, **backbone.train, "seed": seed}),
            )
            for backbone in self.backbones
            for seed in self.seeds
            for variant in self.variants
        ]


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML file; a data folder in it is relative to the file.

    Raises:
        StudyError: the file cannot be read, or is wrong; the message lists every fault.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise StudyError(f"no study file {str(path)!r}.{did_you_mean(path.name, near)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StudyError(f"{path} cannot be read as YAML: {error}") from error
    return parse_study(content, source=str(path), base=path.parent)


def study_yaml(study: Study) -> str:
    """The study as a file that `load_study` reads."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    content["data"] = {"name": study.data.name, **content["data"]}  # a default, but it decides
    content["backbones"] = [
        entry["name"] if len(entry) == 1 else entry for entry in content["backbones"]
    ]
    content["variants"] = [
        PLAIN
        if variant.policy is None
        else {"policy": variant.policy, "block": variant.block} | entry
        for variant, entry in zip(study.variants, content["variants"], strict=True)
    ]
    return "".join(_lines(key, value) for key, value in content.items())


def _lines(key: str, value: Any) -> str:
    """One key of a study file: a list of mappings with an item a line, anything else on one."""
    if key in ("backbones", "variants"):
        return f"{key}:\n" + "".join(f"  - {_flow(item)}\n" for item in value)
    return f"{key}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.removesuffix("\n").removesuffix("\n...")


def parse_study(content: Any, *, source: str = "study", base: str | Path = ".") -> Study:
    """A study from plain dicts and lists. See `load_study`; `base` is where data folders start.

    Plain and the controls asked for are added to its variants where they are not there.
    """
    if not isinstance(content, Mapping):
        raise StudyError(
            f"{source}: a study is a mapping with keys {', '.join(Study.model_fields)}."
        )
    content = {"name": Path(source).stem, **content}
    found: list[str] = []
    for key in content:
        if key not in Study.model_fields:
            known = list(Study.model_fields)
            found.append(
                f"{key}: there is no such key.{did_you_mean(str(key), known)} "
                f"There are: {', '.join(known)}."
            )
    data = _data(content, found, Path(base))
    train = content.get("train") or {}
    backbones = _backbones(content, train, found)
    variants = _variants(content, found)
    seeds = _seeds(content.get("seeds", [0]), found)
    controls = _controls(content.get("controls", True), found)
    points = content.get("difference_points", 1.0)
    if isinstance(points, bool) or not isinstance(points, int | float) or not 0 < points <= 100:
        found.append(
            f"difference_points: must be a number of percentage points above 0, e.g. 1.0 "
            f"(given: {points!r})."
        )
    if not isinstance(content.get("measure", True), bool):
        found.append(f"measure: must be true or false (given: {content['measure']!r}).")
    if "name" in content and not (isinstance(content["name"], str) and content["name"].strip()):
        found.append(f"name: must be a text (given: {content['name']!r}).")
    if not found:
        found += [
            f"{kind}: {name!r} is there twice; runs are told apart by it."
            for kind, names in (
                ("backbones", [entry["name"] for entry in backbones]),
                ("variants", [Variant.model_validate(entry).title for entry in variants]),
            )
            for name, times in Counter(names).items()
            if times > 1
        ]
    if found:
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        raise StudyError(f"{source}: {count}.\n" + "\n".join(f"- {fault}" for fault in found))
    return Study.model_validate(
        {
            **content,
            "data": data,
            "train": train,
            "seeds": seeds,
            "backbones": backbones,
            "variants": with_baselines([Variant.model_validate(v) for v in variants], controls),
            "controls": controls,
        }
    )


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


def _backbones(content: Mapping[str, Any], train: Any, found: list[str]) -> list[dict[str, Any]]:
    entries = []
    train_faults = _train_faults(train, "train")
    found += train_faults
    for place, item in _items(content, "backbones", "torchvision/resnet18", found):
        entry = {"name": item} if isinstance(item, str) else item
        wrong = faults(Backbone, entry, place)
        if not wrong and not train_faults:
            wrong = _train_faults({**train, **entry.get("train", {})}, f"{place}.train")
        found += wrong
        entries.append(entry)
    return entries


def _train_faults(train: Any, place: str) -> list[str]:
    if isinstance(train, Mapping) and "seed" in train:
        return [f"{place}.seed: a study has seeds of its own; write seeds: [{train['seed']}]."]
    return faults(TrainRecipe, train, place)


def _variants(content: Mapping[str, Any], found: list[str]) -> list[dict[str, Any]]:
    entries = []
    for place, item in _items(content, "variants", PLAIN, found):
        if isinstance(item, str):
            if item != PLAIN:
                found.append(
                    f"{place}: {item!r} is no variant. Write {PLAIN} for no attention, or "
                    f"{{policy: auto, block: local}}."
                )
            entries.append({})
            continue
        wrong = faults(Variant, item, place)
        if not wrong and item.get("policy") is None:
            wrong = [f"{place}.policy: this key is required, e.g. policy: auto (or write {PLAIN})."]
        found += wrong or _recipe_faults(Variant.model_validate(item), place)
        entries.append(item)
    return entries


def _recipe_faults(variant: Variant, place: str) -> list[str]:
    """Whether there are such a policy and such a block, with such options."""
    wrong = []
    for policy, block, options in (
        (policy_argument(variant.policy or "auto"), "none", {}),
        ("auto", variant.block, variant.options),
    ):
        try:
            parse_recipe(policy, block, variant.start, options)
        except AttnzooError as error:
            wrong.append(f"{place}: {error}")
    return wrong


def _seeds(seeds: Any, found: list[str]) -> Any:
    numbers = isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds) > 0
    if not numbers or not all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds):
        found.append(f"seeds: must be a list of whole numbers, e.g. [0, 1, 2] (given: {seeds!r}).")
    elif len(set(seeds)) < len(seeds):
        found.append(f"seeds: each only once (given: {seeds!r}).")
    return seeds


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
