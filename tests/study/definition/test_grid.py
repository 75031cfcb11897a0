"""Study files: all faults at once, and exactly the runs asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from study_files import CBAM, GOOD, SE, faults_of, product

from attnzoo.study import load_study, parse_study
from attnzoo.study.definition.grid import study_yaml


def test_runs_are_the_product_with_overrides() -> None:
    runs = parse_study(GOOD).runs
    assert len(runs) == 8
    assert len({run.id for run in runs}) == 8
    seen = {(r.backbone, r.variant.title, r.train.seed, r.train.lr, r.data.size) for r in runs}
    assert ("timm/resnet18", "plain", 0, 1e-3, 32) in seen
    assert ("torchvision/vgg11", "auto + se reduction=8", 1, 0.1, 64) in seen
    assert all(run.train.epochs == 2 for run in runs)


def test_a_study_survives_its_own_yaml() -> None:
    study = parse_study({**GOOD, "same_within": 0.5, "correction": "fdr"})
    assert (study.same_within, study.correction) == (0.5, "fdr")
    assert parse_study(yaml.safe_load(study_yaml(study))) == study
    assert type(study).model_validate_json(study.model_dump_json()) == study
    looked = parse_study({**GOOD, "seeds": {"until": "decided", "least": 4, "most": 9}})
    assert (looked.look_from, looked.seeds) == (4, tuple(range(9)))
    assert "seeds: {until: decided, least: 4, most: 9}" in study_yaml(looked)
    assert parse_study(yaml.safe_load(study_yaml(looked))) == looked


@pytest.mark.parametrize(
    "path", sorted(Path("examples/studies").glob("*.yaml")), ids=lambda p: p.name
)
def test_the_example_studies_are_right(path: Path) -> None:
    assert load_study(path).runs


def test_the_quickstart_has_the_runs_it_has_time_for() -> None:
    study = load_study("examples/studies/quickstart.yaml")
    assert [variant.title for variant in study.variants] == [
        "plain",
        "auto + local",
        "auto + se",
        "control: auto + affine",
    ]
    assert len(study.runs) == 12


def runs_of(study: Any) -> list[tuple[str, str]]:
    return [(run.backbone, run.variant.title) for run in study.runs]


def test_exclusions_are_of_a_backbone_or_of_all() -> None:
    content = {
        **GOOD,
        "seeds": [0],
        "controls": True,
        "backbones": ["timm/resnet18", "timm/vgg11"],
        "variants": [
            {"policy": "in-residual", "block": "se"},
            product(policy="auto", block="se", options={"reduction": [4, 8]}),
        ],
        "exclude": [
            {"backbone": ["timm/vgg11", "timm/vgg13"], "policy": "in-residual"},
            {"options": {"reduction": 4}},
        ],
    }
    study = parse_study(content)
    eight = ["auto + se reduction=8", "control: auto + conv like se reduction=8"]
    residual = ["in-residual + se", "control: in-residual + conv like se"]
    affine = [f"control: {policy} + affine" for policy in ("in-residual", "auto")]
    assert runs_of(study) == [
        *(("timm/resnet18", title) for title in ("plain", *residual, *eight, *affine)),
        *(("timm/vgg11", title) for title in ("plain", *eight, affine[1])),
    ]
    assert parse_study(yaml.safe_load(study_yaml(study))) == study


def test_what_stands_beside_the_excluded_is_left_out_too() -> None:
    study = parse_study(
        {
            **GOOD,
            "seeds": [0],
            "backbones": ["timm/resnet18", "timm/vgg11"],
            "variants": [SE, {**CBAM, "train": {"lr": 1}}],
            "exclude": [{"backbone": "timm/vgg11", "train": {"lr": 1}}],
        }
    )
    assert runs_of(study)[-2:] == [("timm/vgg11", "plain"), ("timm/vgg11", "auto + se")]
    assert len(study.runs) == 6


@pytest.mark.parametrize(
    ("exclude", "says"),
    [
        ({"policy": "auto"}, "exclude: must be a list of mappings"),
        ([{}], "exclude: must be a list of mappings"),
        ([{"polcy": "auto"}], "exclude[0].polcy: there is no such key. Did you mean 'policy'"),
        ([{"block": "eca"}], "exclude[0]: {'block': 'eca'} matches none"),
        ([{"block": "se"}], "exclude: nothing is left of the variants"),
    ],
)
def test_each_fault_of_exclusions(exclude: Any, says: str) -> None:
    assert says in faults_of(exclude=exclude, variants=[SE])


def test_the_axes_of_the_docs_are_what_they_say() -> None:
    page = Path("docs/studies.md").read_text(encoding="utf-8")
    content = yaml.safe_load(
        page.partition("### Axes")[2].partition("```yaml")[2].partition("```")[0]
    )
    study = parse_study(
        {
            "data": {"name": "cluttered-digits"},
            "backbones": ["torchvision/resnet18", "torchvision/vgg16"],
            "controls": False,
            **content,
        }
    )
    first, second = (study.variants_of(backbone) for backbone in study.backbones)
    plain = {"plain", "plain lr=0.01", "plain lr=0.001"}
    assert plain < {variant.title for variant in study.variants}
    # 16 of the product, less 2 on every backbone, and on the first those before pools.
    assert [len(kept) - len(plain) - 1 for kept in (first, second)] == [7, 14]
