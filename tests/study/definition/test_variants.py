"""Variants: products of choices, and training of their own."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from study_files import GOOD, SE, faults_of, product, titles

from attnzoo.study import parse_study
from attnzoo.study.definition.grid import study_yaml


def test_a_product_is_every_combination() -> None:
    found = titles(
        [
            product(
                policy=["auto", ["pre-pool", {"every": 2}]],
                block="se",
                start=["identity", "paper"],
                options={"reduction": [4, 8]},
            )
        ],
        controls=False,
    )
    assert found == [
        "plain",
        *(
            f"{policy} + se reduction={reduction}{start}"
            for policy in ("auto", "pre-pool(every=2)")
            for start in ("", " (paper)")
            for reduction in (4, 8)
        ),
    ]


def test_a_choice_that_is_a_list_is_written_inside_one() -> None:
    study = parse_study(
        {**GOOD, "variants": [product(policy=[[["pre-pool", {"every": 2}], "transition"]])]}
    )
    assert study.variants[1].policy == [["pre-pool", {"every": 2}], "transition"]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (
            {"policy": "auto", "blok": ["se"]},
            "variants[0].product.blok: there is no such axis. Did",
        ),
        ({"block": ["se"]}, "variants[0].product: must be a mapping with policy"),
        ({"policy": []}, "variants[0].product.policy: a list of choices needs at least one"),
        ({"policy": "auto", "options": [4]}, "variants[0].product.options: must be a mapping"),
        ({"policy": "auto", "block": ["se", "cbm"]}, "variants[0].product.block[1]: no block is"),
        ({"policy": "auto", "start": ["papr"]}, "variants[0].product.start[0]: "),
        ({"policy": "auto", "train": {"lr": [1, -1]}}, "variants[0].product.train.lr: "),
        ({"policy": "auto", "train": {"lrr": [1]}}, "no such key. Did you mean 'lr'"),
        ({"policy": ["auto", "auto"]}, "variants[0].product: 'auto + local' is there twice"),
    ],
)
def test_each_fault_of_a_product_comes_once(axes: dict[str, Any], says: str) -> None:
    text = faults_of(variants=[product(**axes)])
    assert says in text
    assert ": 1 fault." in text


def test_beside_a_product_nothing_stands() -> None:
    text = faults_of(variants=[{**product(policy="auto"), "name": "mine"}])
    assert "variants[0]: beside product nothing can stand (given: name)" in text


def test_a_variant_with_its_own_training_is_compared_with_plain_trained_so() -> None:
    study = parse_study(
        {
            **GOOD,
            "controls": ["affine"],
            "variants": [SE, {**SE, "train": {"lr": 0.5}}],
            "backbones": ["timm/resnet18"],
            "seeds": [3],
        }
    )
    assert [variant.title for variant in study.variants] == [
        *("plain", "auto + se", "plain lr=0.5", "auto + se lr=0.5"),
        *("control: auto + affine", "control: auto + affine lr=0.5"),
    ]
    assert study.baselines["auto + se"] == "plain"
    assert study.baselines["auto + se lr=0.5"] == "plain lr=0.5"
    assert study.baselines["control: auto + affine lr=0.5"] == "plain lr=0.5"
    assert study.controlled["auto + se lr=0.5"] == "control: auto + affine lr=0.5"
    rates = {run.variant.title: run.train.lr for run in study.runs}
    assert {title: rate == 0.5 for title, rate in rates.items()} == {
        title: "lr=0.5" in title for title in rates
    }
    assert len({run.id for run in study.runs}) == 6
    assert parse_study(yaml.safe_load(study_yaml(study))) == study


def test_what_is_of_attention_alone_asks_for_no_other_plain() -> None:
    scales = product(policy="auto", block="se", train={"attention_lr_scale": [1, 10]})
    study = parse_study({**GOOD, "variants": [scales]})
    assert [variant.title for variant in study.variants] == [
        *("plain", "auto + se attention_lr_scale=1", "auto + se attention_lr_scale=10"),
    ]
    assert set(study.baselines.values()) == {"plain"}


def test_plain_can_have_training_of_its_own() -> None:
    wanted = ["plain", "plain lr=1", "plain lr=2"]
    explicit = ["plain", *({"policy": "plain", "train": {"lr": rate}} for rate in (1, 2))]
    assert titles(explicit) == wanted
    both = product(policy=["plain", "auto"], block=["se", "eca"], train={"lr": [1, 2]})
    assert titles([both], controls=False) == [
        *wanted[1:],
        *(f"auto + {block} lr={rate}" for block in ("se", "eca") for rate in (1, 2)),
    ]
    assert "plain has name and train only (given: block)" in faults_of(
        variants=[{"policy": "plain", "block": "se"}]
    )
