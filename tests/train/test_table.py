"""Pictures by a table, splits that are drawn, and classes of unequal size."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from training import make_folder, recipe, spec, tiny_net

from attnzoo.errors import DataError, OptionError
from attnzoo.train import Watch, fit, open_data, train
from attnzoo.train.data import uneven_classes
from attnzoo.train.devices import launch
from attnzoo.train.session import Session
from attnzoo.train.table import draw_share, read_table


def table(root: Path, columns: str, *rows: str) -> str:
    (root / "labels.csv").write_text("\n".join([columns, *rows]) + "\n")
    return str(root / "labels.csv")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_folder(tmp_path, {"cat": 10, "dog": 5}, ("all",))


def names(root: Path) -> list[tuple[str, str]]:
    return sorted((str(p.relative_to(root)), p.parent.name) for p in root.rglob("*.png"))


def test_a_table_with_splits(pictures: Path) -> None:
    rows = [
        f"{path},{label},{('train', 'val', 'test')[i % 3]}"
        for i, (path, label) in enumerate(names(pictures))
    ]
    data = open_data({"name": "table", "root": table(pictures, "path,label,split", *rows)})
    assert data.classes == ["cat", "dog"]
    assert (len(data.train), len(data.validation), len(data.test)) == (5, 5, 5)
    assert data.train[0, 0, 0][0].shape == (3, 224, 224)


def test_without_splits_a_share_is_drawn_of_each_class(pictures: Path) -> None:
    path = table(pictures, "path,label", *(f"{p},{label}" for p, label in names(pictures)))
    classes, files = read_table(path, 0.4, seed=0)
    assert Counter(classes[label] for _, label in files["test"]) == {"cat": 4, "dog": 2}
    assert read_table(path, 0.4, seed=0)[1] == files
    assert read_table(path, 0.4, seed=1)[1] != files


def test_groups_stay_together(pictures: Path) -> None:
    rows = [f"{p},{label},g{i // 3}" for i, (p, label) in enumerate(names(pictures))]
    path = table(pictures, "path,label,group", *rows)
    _, files = read_table(path, 0.34, seed=0)
    group = {str(pictures / row.split(",")[0]): row.split(",")[2] for row in rows}
    train_groups, test_groups = ({group[p] for p, _ in files[s]} for s in ("train", "test"))
    assert train_groups
    assert test_groups
    assert not train_groups & test_groups


@pytest.mark.parametrize(
    ("columns", "row", "says"),
    [
        ("path,lable", "a.png,cat", "no column 'label'. Did you mean 'lable'"),
        ("path,label,split", "a.png,cat,trian", "line 2: split is 'trian'"),
        ("path,label", "a.png,", "line 2 has no path or no label"),
        ("path,label,split", "a.png,cat,train", "no picture to test on of: cat"),
    ],
)
def test_what_is_wrong_with_a_table(columns: str, row: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(table(tmp_path, columns, row), 0.2, 0)
    assert says in str(caught.value)


def test_a_picture_that_is_not_there_is_told_with_its_line(pictures: Path) -> None:
    rows = [f"{path},{label}" for path, label in names(pictures)]
    path = table(pictures, "path,label", *rows[:3], "all/cat/nowhere.png,cat", *rows[3:])
    with pytest.raises(
        DataError, match=r"line 5: there is no file 'all/cat/nowhere.png' in .*1 of"
    ):
        open_data({"name": "table", "root": path})


def test_a_share_that_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match=r"a share of 0.2 cannot be drawn"):
        draw_share("this", [0, 0, 0, 1], 0.2, 0)


def test_val_is_tested_on_where_there_is_no_test(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 3, "dog": 3}, ("train", "val"))
    assert len(open_data({"name": "folder", "root": str(root)}).test) == 6
    make_folder(tmp_path, {"cat": 1, "dog": 1}, ("test", "odd"))
    told = {"name": "folder", "root": str(root)}
    assert len(open_data(told).test) == 2
    assert open_data(told).validation is None
    assert len(open_data({**told, "test_split": "odd"}).test) == 2
    assert len(open_data({**told, "validation": "val"}).validation) == 6
    drawn = open_data({**told, "validation": 0.34})
    assert (len(drawn.train), len(drawn.validation)) == (3, 3)


def test_an_epoch_is_chosen_by_the_validation_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"cat": 8, "dog": 8})
    data = {"name": "folder", "root": str(root), "size": 16, "validation": 0.25}
    how = {"epochs": 2, "batch_size": 4, "device": "cpu"}
    result = train(spec(data=data, train=how, keep="best"), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(0 <= float(row["val_top1"]) <= 1 for row in rows)
    assert "best of 2 on the validation images" in result.kept
    assert "flatters" not in result.kept


class Remarks(Watch):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def remark(self, line: str) -> None:
        self.lines.append(line)


def uneven(root: Path) -> Path:
    make_folder(root, {"cat": 9}, ("train", "test"))
    return make_folder(root, {"dog": 3}, ("train", "test"))


def test_unequal_classes_are_said_and_chance_is_right(tmp_path: Path) -> None:
    root = uneven(tmp_path)
    data = open_data({"name": "folder", "root": str(root), "size": 16})
    assert data.chance == 0.75
    assert "9 training images of cat, 3 of dog" in uneven_classes(data)
    watch = Remarks()
    how = {"epochs": 1, "batch_size": 4, "device": "cpu"}
    told = {"name": "folder", "root": str(root), "size": 16}
    train(spec(data=told, train=how), watch=watch)
    assert any("Always guessing cat is right for 75.0%" in line for line in watch.lines)
    equal = make_folder(tmp_path / "equal", {"cat": 3, "dog": 3})
    assert uneven_classes(open_data({**told, "root": str(equal)})) == ""


class Guess(nn.Module):
    """Says that everything is of the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.tensor([5.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(x), 2) + 0 * x.mean()


def test_balanced_accuracy_is_not_fooled(tmp_path: Path) -> None:
    data = open_data({"name": "folder", "root": str(uneven(tmp_path)), "size": 16})
    (row,) = fit(Guess(), data, recipe(epochs=0, batch_size=4)).epochs
    assert (row["test_top1"], row["test_balanced"]) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("given", "wanted"), [("balanced", [2 / 3, 2.0]), ([1.0, 3.0], [2 / 3, 2.0])]
)
def test_class_weights(given: object, wanted: list[float], tmp_path: Path) -> None:
    data = open_data({"name": "folder", "root": str(uneven(tmp_path)), "size": 16})
    how = recipe(batch_size=4, class_weights=given)
    session = Session(launch(how), tiny_net(num_classes=2), data, how)
    assert session.class_weights.tolist() == pytest.approx(wanted)
    wrong = recipe(batch_size=4, class_weights=[1.0, 2.0, 3.0])
    with pytest.raises(OptionError, match="there are 2 classes, cat, dog"):
        Session(launch(wrong), tiny_net(num_classes=2), data, wrong)
