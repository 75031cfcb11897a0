"""Study files: all faults at once, and exactly the runs asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from attnzoo.errors import StudyError
from attnzoo.study import load_study, parse_study
from attnzoo.study.definition.grid import study_yaml

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
    study = parse_study({**GOOD, "same_within": 0.5, "correction": "fdr"})
    assert (study.same_within, study.correction) == (0.5, "fdr")
    assert parse_study(yaml.safe_load(study_yaml(study))) == study
    assert type(study).model_validate_json(study.model_dump_json()) == study
    looked = parse_study({**GOOD, "seeds": {"until": "decided", "least": 4, "most": 9}})
    assert (looked.look_from, looked.seeds) == (4, tuple(range(9)))
    assert "seeds: {until: decided, least: 4, most: 9}" in study_yaml(looked)
    assert parse_study(yaml.safe_load(study_yaml(looked))) == looked


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
    assert study.data.root == str(tmp_path / "pictures")


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


# Products, exclusions, training of one's own


def product(**axes: Any) -> dict[str, Any]:
    return {"product": axes}


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


def test_training_is_checked_together() -> None:
    text = faults_of(
        backbones=[{"name": "timm/resnet18", "train": {"epochs": 1}}],
        variants=[{**SE, "train": {"warmup_epochs": 2}}],
    )
    assert "variants[0].train: warmup_epochs=2.0 is longer than epochs=1" in text
    assert "(with timm/resnet18)" in text


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


# Lines


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
    with pytest.raises(StudyError, match="backbones: must be a list"):
        load_study(path)
