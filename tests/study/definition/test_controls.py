"""Plain and the controls that a study gets by itself."""

from __future__ import annotations

import yaml
from study_files import CBAM, GOOD, SE, faults_of, titles

from attnzoo.study import parse_study
from attnzoo.study.definition.grid import study_yaml


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
