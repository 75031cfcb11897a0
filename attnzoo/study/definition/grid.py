"""Study: backbones × variants × seeds → runs, and how a study is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, PrivateAttr

from attnzoo.backbones import is_file
from attnzoo.study.definition.controls import (
    CONTROLS,
    ControlName,
    baselines_of,
    controls_of,
    is_control,
    needed,
)
from attnzoo.study.definition.variants import PLAIN, StudyVariant, excludes
from attnzoo.train import Config, DataSpec, DigitsData, Keep, OwnData, RunSpec, TrainRecipe

__all__ = ["Backbone", "Correction", "Metric", "Study", "digest_keys", "study_yaml"]

Correction = Literal["holm", "fdr"]
"""`holm` keeps the chance of any wrong verdict at 5%; `fdr` the share of wrong ones, to screen."""

Metric = Literal["top1", "balanced", "macro_f1", "nll", "map", "f1", "mae", "r2"]
"""What verdicts are on."""


class Backbone(Config):
    """One backbone of a study.

    Attributes:
        name: as in `attnzoo.create_backbone`.
        options: for the function that builds it.
        weights: trained weights to begin with, as in `attnzoo.create_backbone`; a file's path is
            relative to the study file.
        train: what to change in the study's training for this backbone.
        size: side of its images in pixels, where it needs another than the study's.
    """

    added: ClassVar[tuple[str, ...]] = ("weights",)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    train: dict[str, Any] = Field(default_factory=dict)
    size: int | None = Field(None, ge=8)


class Study(Config):
    """Backbones × variants × seeds on one data set.

    Attributes:
        name: of the study, and of its folder.
        question: what it is to answer, for the report.
        data: what to train and test on.
        train: how; a backbone and a variant may change parts of it, the variant having the last
            word.
        seeds: one run per backbone, variant and seed.
        look_from: seeds from which on verdicts are looked at after each, and what is decided has
            no further runs; None: once, when all are done.
        backbones: what attention is put into.
        variants: what is put in, baselines and controls included.
        exclude: what is left out; each entry holds parts of a backbone and a variant.
        controls: which controls `parse_study` adds for every attention block: `conv`, of its
            size, and `affine`, of the smallest.
        metric: what verdicts are on: `top1`, `balanced` accuracy, `macro_f1`, or `nll`, the
            negative log-likelihood, of which lower is better; of several labels an image `map` or
            `f1`, of a number `mae` or `r2`; in hundredths, as shares in percent.
        difference_points: the difference in the metric, in hundredths, that the study is to be
            able to see; how many more seeds that takes is told by the report.
        same_within: the difference in the metric, in hundredths, below which two count as the
            same; without it nothing is called the same.
        correction: of the verdicts, for the number of comparisons.
        strict: whether to refuse backbones whose forward pass cannot be followed to its end, as in
            `attnzoo.wrap`; `plain` ones, where nothing is put in, are not asked.
        keep: what of its network each run leaves, as in `RunSpec`: `attention`, `all` or `best`.
        digests: of the pictures, and of each backbone's code and weights, as they were when the
            study was last started, with the defaults of blocks that were others once; no key of a
            study file.
        measure: whether to measure latency, throughput and memory once the runs are done.
    """

    added: ClassVar[tuple[str, ...]] = ("strict", "keep", "digests", "metric")

    name: str
    question: str = ""
    data: DataSpec = Field(discriminator="name")
    train: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    look_from: int | None = Field(None, ge=3)
    backbones: tuple[Backbone, ...]
    variants: tuple[StudyVariant, ...]
    exclude: tuple[dict[str, Any], ...] = ()
    controls: tuple[ControlName, ...] = CONTROLS
    metric: Metric = "top1"
    difference_points: float = Field(1.0, gt=0, le=100)
    same_within: float | None = Field(None, gt=0, le=100)
    correction: Correction = "holm"
    measure: bool = True
    strict: bool = False
    keep: Keep = "attention"
    digests: dict[str, str] = Field(default_factory=dict)
    _base: Path = PrivateAttr(default=Path())

    def __eq__(self, other: object) -> bool:
        """Whether both ask for the same, wherever their files are."""
        return isinstance(other, Study) and dict(self) == dict(other)

    __hash__ = None  # it holds mappings

    @property
    def baselines(self) -> dict[str, str]:
        """Title of a variant → title of the plain network that it is compared with."""
        return baselines_of(self.variants)

    @property
    def controlled(self) -> dict[str, str]:
        """Title of a variant → title of the control that it is compared with."""
        return controls_of(self.variants)

    @property
    def comparisons(self) -> list[tuple[str, str, str]]:
        """`(backbone, variant, what it is compared with)`: plain, and the control."""
        found = []
        for backbone in self.backbones:
            titles = [variant.title for variant in self.variants_of(backbone)]
            for title in titles:
                beside = (self.baselines.get(title), self.controlled.get(title))
                found += [(backbone.name, title, other) for other in beside if other in titles]
        return found

    @property
    def control_titles(self) -> frozenset[str]:
        """Titles of the variants that are controls: blocks without attention."""
        return frozenset(v.title for v in self.variants if is_control(v))

    def data_of(self, backbone: Backbone) -> DataSpec:
        """The study's data where they are, at the backbone's image size."""
        new: dict[str, Any] = {"size": backbone.size or self.data.size}
        if not isinstance(self.data, DigitsData | OwnData):
            new["root"] = str(self.at(self.data.root))
        return self.data.model_copy(update=new)

    def at(self, path: str) -> Path:
        """A path of the study file, as it is found from here."""
        place = Path(path).expanduser()
        return place if place.is_absolute() else (self._base / place).resolve()

    def placed(self, base: Path) -> Study:
        """The study, with paths that begin at `base`."""
        self._base = base
        return self

    def variants_of(self, backbone: Backbone) -> list[StudyVariant]:
        """What is put into a backbone: all that is not excluded, and what that is compared with."""
        kept = [
            variant
            for variant in self.variants
            if not any(excludes(entry, backbone.name, variant) for entry in self.exclude)
        ]
        return kept if len(kept) == len(self.variants) else needed(kept, self.variants)

    def run(self, backbone: Backbone, variant: StudyVariant, seed: int) -> RunSpec:
        """One run of the study."""
        train = {**self.train, **backbone.train, **variant.train, "seed": seed}
        weights = backbone.weights
        if is_file(weights):
            weights = str(self.at(weights or ""))
        digests = {
            kind: self.digests[key]
            for kind, key in digest_keys(backbone.name, variant.title).items()
            if key in self.digests
        }
        return RunSpec(
            backbone=backbone.name,
            backbone_options=backbone.options,
            weights=weights,
            variant=variant.in_run,
            data=self.data_of(backbone),
            train=TrainRecipe.model_validate(train),
            strict=self.strict,
            keep=self.keep,
            digests=digests,
        )

    @property
    def runs(self) -> list[RunSpec]:
        """All runs, those to be compared with one another side by side."""
        found: list[RunSpec] = []
        for backbone in self.backbones:
            firsts = [self.run(backbone, v, self.seeds[0]) for v in self.variants_of(backbone)]
            for seed in self.seeds:
                found += [
                    run.model_copy(update={"train": run.train.model_copy(update={"seed": seed})})
                    for run in firsts
                ]
        return found


def digest_keys(backbone: str, variant: str) -> dict[str, str]:
    """A run's name of a digest → the study's."""
    of_backbone = {"code": f"code {backbone}", "weights": f"weights {backbone}"}
    return {"data": "data", **of_backbone, "block": f"block {variant}"}


def study_yaml(study: Study) -> str:
    """The study as a file that `load_study` reads."""
    content = study.model_dump(mode="json", exclude_defaults=True, exclude={"digests"})
    content["data"] = {"name": study.data.name, **content["data"]}  # a default, but it decides
    if study.look_from is not None:
        least, most = content.pop("look_from"), len(study.seeds)
        content["seeds"] = {"until": "decided", "least": least, "most": most}
    content["backbones"] = [
        entry["name"] if len(entry) == 1 else entry for entry in content["backbones"]
    ]
    content["variants"] = [
        _variant_entry(variant, entry)
        for variant, entry in zip(study.variants, content["variants"], strict=True)
    ]
    return "".join(_lines(key, value) for key, value in content.items())


def _variant_entry(variant: StudyVariant, entry: dict[str, Any]) -> Any:
    if variant.policy is None:
        return {"policy": PLAIN} | entry if entry else PLAIN
    return {"policy": variant.policy, "block": variant.block} | entry


def _lines(key: str, value: Any) -> str:
    """One key of a study file: a list of mappings with an item a line, anything else on one."""
    if key in ("backbones", "variants", "exclude"):
        return f"{key}:\n" + "".join(f"  - {_flow(item)}\n" for item in value)
    return f"{key}: {_flow(value)}\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.removesuffix("\n").removesuffix("\n...")
