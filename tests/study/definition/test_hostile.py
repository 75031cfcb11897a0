"""Study files that are wrong in ways nobody thinks of: told at once, never hung, never raw."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnzoo.errors import StudyError
from attnzoo.study import load_study, parse_study
from attnzoo.study.definition import controls, lines

STUDY: dict[str, Any] = {
    "name": "s",
    "data": {"name": "cluttered-digits", "size": 32, "train": 32, "test": 32},
    "backbones": ["torchvision/resnet18"],
    "variants": ["plain", {"policy": "pre-pool", "block": "se"}],
    "controls": False,
}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Nothing here may take a minute."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
BILLION: Any = "x"
for _ in range(12):
    BILLION = [BILLION] * 9


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"variants": ["plain", {"policy": {"pre-pool": {"every": 2}}}]}, r"variants\[1\]\.policy"),
        ({"variants": [{"policy": ["pre-pool", "se", 5]}]}, r"variants\[0\]\.policy: .*5"),
        ({"variants": [{"policy": []}]}, "policy"),
        ({"variants": [{"policy": [[["auto"], 3]]}]}, "policy"),
        ({"variants": [{"policy": "auto", "options": {5: 6}}]}, r"options"),
        ({"variants": [{"policy": "auto", "block": ["se"]}]}, "block"),
        ({"variants": [{"product": {"policy": ["auto"] * 100, "block": ["se"] * 10_000}}]}, "more"),
        ({"variants": BILLION}, "values"),
        ({"variants": CIRCLE}, "circle"),
        ({"variants": [{"policy": "auto", "options": {"x": CIRCLE}}]}, "circle"),
        ({"question": 5}, "question: must be a text"),
        ({"question": ["x"]}, "question: must be a text"),
        ({"data": {"name": [1]}}, "data.name"),
        ({"data": {"name": "folder", "root": "~nobody-here/x"}}, r"data\.root"),
        ({"data": {"name": "folder", "root": "a\0b"}}, r"data\.root"),
        ({"seeds": b"\0\1\2"}, "seeds"),
        ({"seeds": list(range(100_000))}, "200,000 runs"),
        ({"seeds": ["x"] * 100_000}, "seeds: must be a list of whole numbers"),
        ({"name": "../../x"}, "name: is also the folder's"),
        ({"name": ".."}, "name: is also the folder's"),
        ({"name": "a\nb"}, "name: is also the folder's"),
        ({"name": "x" * 300}, "bytes long"),
        ({"train": 5}, "train"),
        ({"exclude": [{"policy": CIRCLE}]}, "circle"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told) as raised:
        parse_study({**STUDY, **changes})
    assert len(str(raised.value)) < 3000


def test_a_question_that_is_left_empty_is_none() -> None:
    assert parse_study({**STUDY, "question": None}).question == ""


TEXT = """name: s
data: {name: cluttered-digits, size: 32, train: 32, test: 32}
backbones: [torchvision/resnet18]
variants:
  - plain
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("  - policy: {pre-pool: {every: 2}}\n", "s.yaml:6: variants"),
        ("seeds: [" + "9" * 5000 + "]\n", "cannot be read as YAML"),
        ("x: " + "[" * 2000 + "]" * 2000 + "\n", "too deeply"),
        ("question: &a [*a]\n", "circle"),
        ("seeds: !!binary AAEC\n", "seeds"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\n", "there is no such key"),
        ("seeds: [0]\nseeds: [1]\n", "twice, on lines 6 and 7"),
        ("question: 2020-13-45\n", "cannot be read as YAML|question"),
    ],
    ids=lambda value: value[:20],
)
def test_files_are_read_or_refused(tmp_path: Path, more: str, told: str) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + more)
    with pytest.raises(StudyError, match=told):
        load_study(tmp_path / "s.yaml")


def test_aliases_are_not_written_out(tmp_path: Path) -> None:
    lists = "".join(
        f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" if i else "l0: &l0 [x]\n"
        for i in range(12)
    )
    (tmp_path / "s.yaml").write_text(TEXT + lists)
    with pytest.raises(StudyError, match="values"):
        load_study(tmp_path / "s.yaml")


def test_the_line_of_a_fault_is_that_of_the_nearest_place() -> None:
    import yaml

    source = lines.Source("s.yaml", yaml.compose(TEXT))
    assert source.locate("variants[0].x.list[any]: no") == "s.yaml:5: variants[0].x.list[any]: no"
    assert source.locate("data.[key]: no") == "s.yaml:2: data.[key]: no"
    assert source.locate("none: no") == "none: no"
    assert source.locate("no place at all") == "no place at all"


def test_ten_thousand_variants_take_a_look_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    variants = [
        {"policy": "pre-pool", "block": "se", "train": {"lr": 1e-6 * (i + 1)}} for i in range(3000)
    ]
    study = parse_study({**STUDY, "variants": variants})
    looked = 0
    before = controls._content

    def content(variant: Any) -> Any:
        nonlocal looked
        looked += 1
        return before(variant)

    monkeypatch.setattr(controls, "_content", content)
    assert len(study.baselines) == 3000
    assert study.controlled == {}
    assert looked < 10 * len(study.variants)
    assert len({run.id for run in study.runs}) == 6000


def test_the_affine_control_is_one_whatever_the_start() -> None:
    cbam = {"policy": "stage-end", "block": "cbam"}
    variants = ["plain", cbam, cbam | {"start": "paper"}]
    study = parse_study({**STUDY, "variants": variants, "controls": ["affine"]})
    names = [variant.title for variant in study.variants]
    assert names[3:] == ["control: stage-end + affine"]
    assert study.controlled == dict.fromkeys(names[1:3], names[3])
    alone = parse_study({**STUDY, "variants": variants[::2], "controls": ["affine"]})
    assert alone.variants[-1].start == "paper"  # as studies have it that were begun before
