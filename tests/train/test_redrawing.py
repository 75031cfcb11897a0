"""Train and test images drawn anew by seed: whole, stratified, in groups, in folds."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from training import make_folder

from attnzoo.errors import DataError, OptionError
from attnzoo.train import RunSpec, data_digest, open_data, read_predictions, train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"), {"cat": 12, "dog": 8})


def spec(root: Path, **changes: object) -> dict[str, object]:
    return {"name": "folder", "root": str(root), "size": 16, "split": "by seed", **changes}


def files(data, split: str) -> set[str]:
    return {path for path, _ in getattr(data, split).files}


def test_every_draw_is_whole_and_has_each_class_by_its_share(root: Path) -> None:
    drawn = [open_data(spec(root, draw=draw, test_share=0.25)) for draw in (0, 0, 1)]
    for data in drawn:
        assert files(data, "train") | files(data, "test") == files(data, "pool")
        assert not files(data, "train") & files(data, "test")
        assert Counter(data.test.labels) == {0: 6, 1: 4}
    assert files(drawn[0], "test") == files(drawn[1], "test") != files(drawn[2], "test")
    assert data_digest(drawn[0]) == data_digest(drawn[2])
    places = drawn[2].test_places
    assert [drawn[2].pool.files[p] for p in places] == drawn[2].test.files
    assert (drawn[2].picture(places[3]) == drawn[2].test.picture(3)).all()


def test_folds_test_on_each_image_once(root: Path) -> None:
    first = [open_data(spec(root, folds=4, draw=draw)) for draw in range(4)]
    tested = Counter(path for data in first for path in files(data, "test"))
    assert tested == dict.fromkeys(files(first[0], "pool"), 1)
    assert {len(data.test) for data in first} == {10}
    assert files(open_data(spec(root, folds=4, draw=4)), "test") not in [
        files(data, "test") for data in first
    ]


def test_images_of_a_group_stay_together(tmp_path: Path) -> None:
    made = make_folder(tmp_path, {"cat": 12, "dog": 12}, ("train",))
    rows = []
    for number, path in enumerate(sorted(made.rglob("*.png"))):
        name = path.with_name(f"patient{number % 12 // 2}_{number}.png")
        path.rename(name)
        rows.append((name, name.parent.name, name.name.partition("_")[0]))
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    by_name = spec(made, group="_", draw=2, test_share=0.3)
    by_column = {**spec(table, draw=2, test_share=0.3), "name": "table"}
    for data in (open_data(by_name), open_data(by_column)):
        groups = [
            {Path(path).name.partition("_")[0] for path in files(data, split)}
            for split in ("train", "test")
        ]
        assert groups[0]
        assert groups[1]
        assert not groups[0] & groups[1]


def test_what_does_not_go_together_is_said(root: Path, tmp_path: Path) -> None:
    for wrong in ({"train": 5}, {"split": None, "folds": 3}, {"split": None, "draw": 0}):
        with pytest.raises(OptionError, match="split: by seed"):
            open_data(spec(root, **wrong))
    with pytest.raises(DataError, match="30 folds cannot be made"):
        open_data(spec(root, folds=30))


def test_a_run_has_the_draw_of_its_seed(root: Path, tmp_path: Path) -> None:
    run = RunSpec.model_validate(
        {
            "backbone": "training:tiny_net",
            "data": spec(root),
            "train": {"epochs": 1, "batch_size": 8, "device": "cpu", "seed": 3},
        }
    )
    assert run.data.shared == pytest.approx(0.25)
    train(run, tmp_path / "run")
    found = read_predictions(tmp_path / "run" / "predictions.npz")
    data = open_data(run.prepared)
    assert found is not None
    assert (found.images == data.test_places).all()
    assert (found.labels == np.asarray(data.test.labels)).all()
    assert "draw" not in (tmp_path / "run" / "run.json").read_text()
