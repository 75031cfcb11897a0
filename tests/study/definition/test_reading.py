"""A study file is read: all faults at once, each with its key and its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from study_files import GOOD, SE, faults_of

from attnzoo.errors import StudyError
from attnzoo.study import load_study, parse_study


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
        "variants[2].policy: no policy is called 'pre-pol'",
        "variants[2].block: no block is called 'cbm'",
        "variants[3].options: block 'se' has no option 'reducton'. Did you mean 'reduction'",
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
        ({"variants": ["plain", "plain"]}, "variants[1]: 'plain' is there twice"),
        ({"backbones": ["timm/resnet18"] * 2}, "backbones[1]: 'timm/resnet18' is there twice"),
        ({"name": " "}, "name: must be a text"),
        ({"seeds": {"until": "decide", "most": 9}}, "seeds.until: write {until: decided,"),
        ({"seeds": {"until": "decided", "mos": 9}}, "seeds.mos: there is no such key. Did you"),
        ({"seeds": {"until": "decided"}}, "seeds: least and most must be whole numbers"),
        ({"seeds": {"until": "decided", "least": 2, "most": 9}}, "3 ≤ least ≤ most ≤ 200"),
        ({"seeds": {"until": "decided", "least": 5, "most": 4.5}}, "seeds: least and most must"),
        ({"look_from": 5}, "look_from: there is no such key"),
        ({"same_within": 0}, "same_within: must be a number of percentage points above 0"),
        ({"same_within": None}, "same_within: must be a number"),
        ({"same_within": True}, "same_within: must be a number"),
        ({"same_withn": 1}, "same_withn: there is no such key. Did you mean 'same_within'"),
        ({"correction": "holms"}, "correction: 'holms' is none. Did you mean 'holm'?"),
        ({"correction": ["fdr"]}, "correction: ['fdr'] is none."),
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
    assert study.data.root == "pictures"  # as it was written: a study that moves reads the same
    assert study.runs[0].data.root == str(tmp_path / "pictures")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(StudyError, match=r"Did you mean 'quickstart\.yaml'"):
        load_study(tmp_path / "quikstart.yaml")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\nseeds: [0, 1\nvariants: [plain]\n")
    with pytest.raises(StudyError, match=r"broken\.yaml:3: this is no YAML"):
        load_study(path)
    path.write_text("just text\n")
    with pytest.raises(StudyError, match="is a mapping with keys name"):
        load_study(path)


@pytest.mark.parametrize("points", [0, -1, "1", True, None])
def test_the_difference_to_see_is_a_number(points: Any) -> None:
    assert "difference_points: must be a number" in faults_of(difference_points=points)


def test_training_is_checked_together() -> None:
    text = faults_of(
        backbones=[{"name": "timm/resnet18", "train": {"epochs": 1}}],
        variants=[{**SE, "train": {"warmup_epochs": 2}}],
    )
    assert "variants[0].train: warmup_epochs=2.0 is longer than epochs=1" in text
    assert "(with timm/resnet18)" in text


def test_faults_name_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        """\
data: {name: cluttered-digits, digit: [0.5, 0.4]}
train: &slow
  epochs: 2
  lrr: 0.1
  epochs: 3
backbones:
  - timm/resnet18
  - options: {width: 3}
variants:
  - {policy: auto, block: se,
     options: {reducton: 3}}
  - product:
      policy: [auto]
      block:
        - se
        - cbm
sedes: [0]
"""
    )
    with pytest.raises(StudyError) as error:
        load_study(path)
    told = [line.removeprefix(f"- {path}:") for line in str(error.value).splitlines()[1:]]
    assert {int(line.partition(":")[0]) for line in told} == {1, 4, 5, 8, 11, 16, 17}
    assert any(
        line.startswith("5: train.epochs: this key is there twice, on lines 3") for line in told
    )
    assert any(line.startswith("8: backbones[1].name: this key is required") for line in told)


def test_aliases_and_merges_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        """\
data: {name: cluttered-digits}
backbones:
  - &net {name: timm/resnet18, train: {lr: 1}}
  - {<<: *net, name: timm/resnet34}
variants: [plain]
"""
    )
    assert [b.train for b in load_study(path).backbones] == [{"lr": 1}] * 2
    path.write_text("data: &all\n  inner: *all\n")
    with pytest.raises(StudyError, match="in a circle"):
        load_study(path)
