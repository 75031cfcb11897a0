"""Studies compared: what differs is named, what is alike is pooled, what cannot be is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from studies import STUDY
from training import make_folder

from attnzoo.errors import StudyError
from attnzoo.study import read_folder, run_study, write_comparison
from attnzoo.study.numbers.corrections import holm
from attnzoo.study.numbers.inference import paired_p
from attnzoo.study.report.pooling import pool, read_studies, setting_differences
from attnzoo.train import Watch

ECA = {"policy": "pre-pool", "block": "eca"}


def do(folder: Path, **changes: Any) -> Path:
    run_study({**STUDY, **changes}, folder, watch=Watch())
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seeds 0 and 1, then 1 to 3 with another block beside. Tests only read them."""
    parent = tmp_path_factory.mktemp("studies")
    first = do(parent / "first", measure=True)
    variants = [*STUDY["variants"], ECA]
    second = do(parent / "second", seeds=[1, 2, 3], variants=variants, question="Again?")
    return [first, second]


def test_runs_alike_but_for_the_seed_are_pooled(studies: list[Path]) -> None:
    pooled = pool(read_studies(studies))
    assert [(row.variant, row.seeds) for row in pooled.rows] == [("plain", 4), ("pre-pool + se", 4)]
    assert pooled.apart == pooled.repeated == []
    top1 = {
        (r.result.variant, r.result.seed): r.result.top1
        for folder in studies
        for r in read_folder(folder)[1]
    }
    differences = [top1["pre-pool + se", s] - top1["plain", s] for s in range(4)]
    found = pooled.rows[1].difference
    assert found.mean == pytest.approx(sum(differences) / 4)
    assert found.p == pytest.approx(float(paired_p(differences)))
    assert found.p_corrected == pytest.approx(float(holm([found.p])[0]))
    assert found.verdict is not None


def test_what_differs_is_named(studies: list[Path]) -> None:
    entries = read_studies(studies)
    assert setting_differences(entries) == [("seeds", ("0, 1", "1, 2, 3"))]


@pytest.fixture(scope="module")
def page(studies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(studies, tmp_path_factory.mktemp("out") / "both")


def test_the_page_has_each_study_and_the_pool(page: Path) -> None:
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        for part in ("first and second", "What differs", "0, 1", "1, 2, 3", "Side by side"):
            assert part in text
        for part in ("Pooled", "Verdicts", "How to run them again", "over plain", "Again?"):
            assert part in text
        assert "Not pooled" not in text
        assert "One seed, two outcomes" not in text
    told = (page.parent / "report.md").read_text()
    assert re.search(r"^\| training:tiny_net \| pre-pool \+ se \| first \| ", told, re.M)
    assert re.search(r"^\| training:tiny_net \| pre-pool \+ eca \| second \| ", told, re.M)
    for path in re.findall(r"!\[.*?\]\((.*?)\)", told):
        assert (page.parent / path).is_file()
    with (page.parent / "comparisons.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["variant"], row["baseline"], row["seeds"]) == ("pre-pool + se", "plain", "4")
    assert not re.search(r"https?://", page.read_text())


def test_other_settings_are_not_pooled(studies: list[Path], tmp_path: Path) -> None:
    slower = do(tmp_path / "slower", train={**STUDY["train"], "lr": 0.01}, seeds=[4, 5])
    entries = read_studies([studies[0], slower])
    assert setting_differences(entries) == [
        ("training:tiny_net: train.lr", ("0.001", "0.01")),
        ("seeds", ("0, 1", "4, 5")),
    ]
    pooled = pool(entries)
    assert pooled.rows == []
    assert pooled.apart == [
        f"training:tiny_net, {name}: train.lr is 0.001 in first and 0.01 in slower."
        for name in ("plain", "pre-pool + se")
    ]
    text = write_comparison([studies[0], slower], tmp_path / "out").read_text()
    assert "Nothing can be pooled" in text
    assert "train.lr is 0.001 in first and 0.01 in slower." in text


def test_one_name_for_two_things_is_not_pooled(studies: list[Path], tmp_path: Path) -> None:
    other = do(tmp_path / "other", variants=[{**ECA, "name": "pre-pool + se"}], seeds=[4])
    pooled = pool(read_studies([studies[0], other]))
    assert [row.variant for row in pooled.rows] == ["plain"]
    (reason,) = pooled.apart
    assert "variant.block is se in first and eca in other" in reason


def test_a_seed_with_two_outcomes_is_told(studies: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(studies[1], tmp_path / "copy")
    run = next(r for r in read_folder(copy)[1] if r.result.seed == 1)
    result = json.loads((run.folder / "result.json").read_text())
    (run.folder / "result.json").write_text(json.dumps({**result, "top1": 0.75}))
    pooled = pool(read_studies([studies[0], copy]))
    (told,) = pooled.repeated
    assert re.fullmatch(r".*plain, seed 1: .*% in first, 75\.00% in copy; the first .*", told)
    assert pooled.rows[0].seeds == 4
    first = read_folder(studies[0])[1][2].result.top1
    assert first in [r.result.top1 for r in pooled.records if r.result.seed == 1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"test": 24}, "other test images, 24 and 16 of them"),
        ({"size": 24}, "test images of other sizes, 24 and 16 pixels"),
        ({"seed": 7}, "other test images: the first ones differ"),
    ],
)
def test_other_test_images_cannot_be_compared(
    studies: list[Path], tmp_path: Path, data: dict[str, int], reason: str
) -> None:
    other = do(tmp_path / "b", data={**STUDY["data"], **data}, variants=["plain"], seeds=[0])
    with pytest.raises(StudyError, match=f"cannot be compared:\n- b and first: {reason}"):
        write_comparison([studies[0], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_images_may_lie_elsewhere(tmp_path: Path) -> None:
    folders = []
    for name in ("here", "there"):
        root = make_folder(tmp_path / name / "images", {"cat": 4, "dog": 4})
        data = {"name": "folder", "root": str(root), "size": 12}
        train = {"epochs": 1, "batch_size": 4, "device": "cpu"}
        seeds = [len(folders)]
        folders.append(do(tmp_path / name / "out", data=data, train=train, seeds=seeds))
    entries = read_studies(folders)
    assert [entry.label for entry in entries] == ["here/out", "there/out"]
    assert setting_differences(entries) == [("seeds", ("0", "1"))]
    assert [row.seeds for row in pool(entries).rows] == [2, 2]
    root = make_folder(tmp_path / "other", {"cat": 4, "cow": 4})
    data = {"name": "folder", "root": str(root), "size": 12}
    other = do(tmp_path / "cows", data=data, train=train, seeds=[0], variants=["plain"])
    with pytest.raises(StudyError, match="- cows and out: other classes, 2 and 2 of them"):
        read_studies([folders[0], other])


def test_faults_of_a_comparison(studies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="two studies or more"):
        write_comparison(studies[:1], tmp_path)
    with pytest.raises(StudyError, match=r"the same study twice: .*first"):
        write_comparison([studies[0], studies[0]], tmp_path)
    with pytest.raises(StudyError, match="holds no study"):
        write_comparison([studies[0], tmp_path], tmp_path)
    with pytest.raises(StudyError, match="whose report would be lost"):
        write_comparison(studies, studies[0])
    empty = shutil.copytree(studies[0], tmp_path / "empty")
    shutil.rmtree(empty / "runs")
    with pytest.raises(StudyError, match="- empty: no run is finished"):
        write_comparison([studies[0], empty], tmp_path)


def test_an_unfinished_study_is_told(studies: list[Path], tmp_path: Path) -> None:
    part = shutil.copytree(studies[1], tmp_path / "part")
    shutil.rmtree(next((part / "runs").iterdir()))
    text = write_comparison([studies[0], part], tmp_path / "out").read_text()
    assert "part is not finished, 8 of 9 runs are done" in text
