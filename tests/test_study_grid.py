"""Study files: all faults at once, and exactly the runs asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from attnzoo.errors import StudyError
from attnzoo.study import load_study, parse_study
from attnzoo.study.grid import study_yaml

GOOD: dict[str, Any] = {
    "name": "good",
    "data": {"name": "cluttered-digits", "size": 32},
    "train": {"epochs": 2, "lr": "1e-3"},
    "seeds": [0, 1],
    "backbones": ["timm/resnet18", {"name": "torchvision/vgg11", "size": 64, "train": {"lr": 0.1}}],
    "variants": ["plain", {"policy": "auto", "block": "se", "options": {"reduction": 8}}],
    "controls": False,
}


def faults_of(**changes: Any) -> str:
    with pytest.raises(StudyError) as error:
        parse_study({**GOOD, **changes})
    return str(error.value)


def test_runs_are_the_product_with_overrides() -> None:
    runs = parse_study(GOOD).runs
    assert len(runs) == 8
    assert len({run.id for run in runs}) == 8
    seen = {(r.backbone, r.variant.title, r.train.seed, r.train.lr, r.data.size) for r in runs}
    assert ("timm/resnet18", "plain", 0, 1e-3, 32) in seen
    assert ("torchvision/vgg11", "auto + se reduction=8", 1, 0.1, 64) in seen
    assert all(run.train.epochs == 2 for run in runs)


def test_a_study_survives_its_own_yaml() -> None:
    study = parse_study(GOOD)
    assert parse_study(yaml.safe_load(study_yaml(study))) == study
    assert type(study).model_validate_json(study.model_dump_json()) == study


def test_all_faults_come_at_once() -> None:
    bad = {
        "dat": {},
        "data": {"name": "cluttered-digits", "sizze": 32},
        "train": {"epoch": 3},
        "seeds": [0, 0],
        "backbones": [{"naame": "timm/resnet18"}],
        "variants": [
            "nothing",
            {"policyy": "auto"},
            {"policy": "pre-pol", "block": "cbm"},
            {"policy": "auto", "block": "se", "options": {"reducton": 3}},
        ],
    }
    with pytest.raises(StudyError) as error:
        parse_study(bad, source="bad.yaml")
    text = str(error.value)
    assert text.startswith("bad.yaml: ")
    for part in (
        "dat: there is no such key. Did you mean 'data'",
        "data.sizze: there is no such key. Did you mean 'size'",
        "train.epoch: there is no such key. Did you mean 'epochs'",
        "seeds: each only once",
        "backbones[0].naame: there is no such key. Did you mean 'name'",
        "backbones[0].name: this key is required",
        "variants[0]: 'nothing' is no variant. Write plain",
        "variants[1].policyy: there is no such key. Did you mean 'policy'",
        "variants[2]: no policy is called 'pre-pol'",
        "variants[2]: no block is called 'cbm'",
        "variants[3]: block 'se' has no option 'reducton'. Did you mean 'reduction'",
    ):
        assert part in text, part
    assert f"{text.count(chr(10) + '- ')} faults" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": None}, "data: this key is required"),
        ({"data": {"name": "folders"}}, "Did you mean 'folder'"),
        ({"seeds": "all"}, "seeds: must be a list of whole numbers"),
        ({"seeds": []}, "seeds: must be a list"),
        ({"seeds": [-1]}, "seeds: must be a list"),
        ({"backbones": None}, "backbones: must be a list of at least one"),
        ({"variants": "plain"}, "variants: must be a list"),
        ({"variants": [3]}, "variants[0]: 3 must be a mapping"),
        ({"train": [1]}, "train: [1] must be a mapping"),
        ({"train": {"seed": 3}}, "train.seed: a study has seeds of its own"),
        ({"backbones": [{"name": "timm/resnet18", "train": {"lrs": 1}}]}, "backbones[0].train.lrs"),
        ({"variants": [{"block": "se"}]}, "variants[0].policy: this key is required"),
        ({"variants": ["plain", "plain"]}, "variants: 'plain' is there twice"),
        ({"backbones": ["timm/resnet18"] * 2}, "backbones: 'timm/resnet18' is there twice"),
        ({"name": " "}, "name: must be a text"),
    ],
)
def test_each_fault(changes: dict[str, Any], says: str) -> None:
    assert says in faults_of(**changes)


def test_a_file_names_the_study_and_anchors_its_data(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    content = {**GOOD, "data": {"name": "folder", "root": "pictures"}}
    del content["name"]
    path.write_text(yaml.safe_dump(content))
    study = load_study(path)
    assert study.name == "mine"
    assert study.data.root == str(tmp_path / "pictures")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(StudyError, match=r"Did you mean 'quickstart\.yaml'"):
        load_study(tmp_path / "quikstart.yaml")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nseeds: [0, 1\nvariants: [plain]\n")
    with pytest.raises(StudyError, match="line 3"):
        load_study(path)
    path.write_text("just text\n")
    with pytest.raises(StudyError, match="is a mapping with keys name"):
        load_study(path)


@pytest.mark.parametrize(
    "path", sorted(Path("examples/studies").glob("*.yaml")), ids=lambda p: p.name
)
def test_the_example_studies_are_right(path: Path) -> None:
    assert load_study(path).runs


# Baselines and controls


def titles(variants: list[Any], **changes: Any) -> list[str]:
    content = {**GOOD, "controls": True, "variants": variants, **changes}
    return [variant.title for variant in parse_study(content).variants]


SE, CBAM = {"policy": "auto", "block": "se"}, {"policy": "stage-end", "block": "cbam"}


def test_plain_and_controls_come_by_themselves() -> None:
    assert titles([SE, CBAM]) == [
        "plain",
        "auto + se",
        "control: auto + conv like se",
        "stage-end + cbam",
        "control: stage-end + conv like cbam",
        "control: auto + affine",
        "control: stage-end + affine",
    ]
    assert titles([SE, {"policy": "auto", "block": "eca"}]).count("control: auto + affine") == 1
    assert titles(["plain"]) == ["plain"]


def test_a_control_takes_all_from_its_block_but_attention() -> None:
    block = {**SE, "options": {"reduction": 8}, "start": "paper", "name": "mine"}
    study = parse_study({**GOOD, "controls": ["conv"], "variants": [block]})
    assert [variant.title for variant in study.variants] == [
        *("plain", "mine", "control: auto + conv like se reduction=8 (paper)"),
    ]
    control = study.variants[-1]
    assert (control.policy, control.block, control.start) == ("auto", "conv", "paper")
    assert control.options == {"like": "se", "like_options": {"reduction": 8}}
    assert study.controlled == {"mine": control.title}


def test_controls_can_be_declined() -> None:
    assert titles([SE], controls=False) == ["plain", "auto + se"]
    assert titles([SE], controls=[]) == ["plain", "auto + se"]
    assert titles([SE], controls=["affine"]) == ["plain", "auto + se", "control: auto + affine"]
    assert titles([SE], controls="conv") == ["plain", "auto + se", "control: auto + conv like se"]
    study = parse_study({**GOOD, "variants": [SE], "controls": ["affine"]})
    assert study.controlled == {"auto + se": "control: auto + affine"}
    assert parse_study({**GOOD, "variants": [SE]}).controlled == {}
    assert "controls: 'conf' is none. Did you mean 'conv'" in faults_of(controls=["conf"])
    assert "controls: 3 is none" in faults_of(controls=3)


def test_controls_that_are_there_are_not_added_again() -> None:
    local = {"policy": "auto", "block": "local"}
    conv = {"name": "mine", "policy": "auto", "block": "conv"}  # like local by default
    affine = {"policy": "auto", "block": "affine"}
    assert titles([conv, local, affine]) == ["plain", "mine", "auto + local", "auto + affine"]
    study = parse_study({**GOOD, "controls": True, "variants": [conv, local, affine]})
    assert study.controlled == {"auto + local": "mine"}


def test_a_study_with_controls_survives_its_own_yaml() -> None:
    for controls in (True, False, ["affine"]):
        study = parse_study({**GOOD, "controls": controls, "variants": [SE, CBAM]})
        assert parse_study(yaml.safe_load(study_yaml(study))) == study


@pytest.mark.parametrize("points", [0, -1, "1", True, None])
def test_the_difference_to_see_is_a_number(points: Any) -> None:
    assert "difference_points: must be a number" in faults_of(difference_points=points)


def test_the_quickstart_has_the_runs_it_has_time_for() -> None:
    study = load_study("examples/studies/quickstart.yaml")
    assert [variant.title for variant in study.variants] == ["plain", "auto + local", "auto + se"]
    assert len(study.runs) == 12
