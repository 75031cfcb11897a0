"""A study's runs are told apart by what they depend on, and not by where it is."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from PIL import Image
from safetensors.torch import save_file
from studies import Told
from training import make_folder

from attnzoo.errors import DataError
from attnzoo.study import load_study, read_folder, run_study
from attnzoo.study.report import write_report

NET = """
from torch import nn
WIDTH = 4
def net(num_classes=10):
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(WIDTH, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes))
"""
STUDY = {
    "data": {"name": "folder", "root": "pictures", "size": 32},
    "train": {"epochs": 1, "batch_size": 4, "device": "cpu"},
    "seeds": [0, 1],
    "backbones": ["identitynet:net"],
    "variants": ["plain", {"policy": "pre-pool", "block": "eca"}],
    "controls": False,
    "measure": False,
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A study of 4 runs that is done, its pictures and its code beside it."""
    path = list(sys.path)
    home = tmp_path / "here"
    make_folder(home / "pictures", {"cat": 8, "dog": 8})
    (home / "identitynet.py").write_text(NET)
    (home / "s.yaml").write_text(yaml.safe_dump(STUDY))
    assert done(home) == (4, [])
    yield home
    sys.path[:] = path
    sys.modules.pop("identitynet", None)


def done(home: Path, **changes: Any) -> tuple[int, list[str]]:
    """How many runs were done by starting the study, and what was said."""
    sys.modules.pop("identitynet", None)
    sys.path[:] = [entry for entry in sys.path if "here" not in entry and "there" not in entry]
    importlib.invalidate_caches()
    if changes:
        study = yaml.safe_load((home / "s.yaml").read_text())
        (home / "s.yaml").write_text(yaml.safe_dump({**study, **changes}))
    told = Told()
    run_study(home / "s.yaml", home / "runs" / "s", watch=told)
    return len(told.names), told.lines


def test_a_study_that_moves_with_its_data_goes_on(place: Path) -> None:
    shutil.copytree(place, there := place.parent / "there")
    shutil.rmtree(place)
    assert done(there) == (0, [])
    assert done(there, seeds=[0, 1, 2])[0] == 2
    assert len(read_folder(there / "runs" / "s")[1]) == 6
    write_report(there / "runs" / "s")
    text = (there / "runs" / "s" / "report.md").read_text()
    assert "root: pictures" in text
    assert str(place) not in text


def test_removed_pictures_are_noticed_and_nothing_is_mixed(place: Path) -> None:
    for path in sorted((place / "pictures" / "train" / "cat").iterdir())[:2]:
        path.unlink()
    count, said = done(place, seeds=[0, 1, 2])
    assert count == 6
    (line,) = said
    assert "the pictures changed: 16 train, 16 test" in line
    assert "14 train, 16 test" in line
    assert line.endswith("its runs are done anew.")
    assert len(read_folder(place / "runs" / "s")[1]) == 6
    assert done(place) == (0, [])


@pytest.mark.parametrize("change", ["content", "name", "class"])
def test_changed_pictures_are_noticed(change: str, place: Path) -> None:
    cats = place / "pictures" / "test" / "cat"
    if change == "content":
        shutil.copy(cats / "1.png", cats / "0.png")
    elif change == "name":
        (cats / "0.png").rename(cats / "00.png")
    else:
        (cats / "0.png").rename(cats.parent / "dog" / "x.png")
    assert done(place)[0] == 4


def test_changed_code_is_noticed_and_nothing_is_mixed(place: Path) -> None:
    code = place / "identitynet.py"
    code.write_text(NET.replace("WIDTH = 4\n", "WIDTH = 4  # pixels\n\n"))
    assert done(place) == (0, [])  # a comment is none
    code.write_text(NET.replace("WIDTH = 4", "WIDTH = 16"))
    count, said = done(place, seeds=[0, 1, 2])
    assert count == 6
    assert "the code of identitynet:net changed" in said[0]
    records = read_folder(place / "runs" / "s")[1]
    assert len({r.result.parameters for r in records if not r.result.sites}) == 1


def test_code_that_the_code_uses_counts_too(place: Path) -> None:
    (place / "identitynet.py").write_text(
        "from identityparts import WIDTH\n" + NET.replace("WIDTH = 4", "")
    )
    (place / "identityparts.py").write_text("WIDTH = 4\n")
    assert done(place)[0] == 4
    (place / "identityparts.py").write_text("WIDTH = 12\n")
    sys.modules.pop("identityparts")
    assert done(place)[0] == 4
    sys.modules.pop("identityparts")


def test_changed_weights_are_noticed_wherever_they_are(place: Path) -> None:
    def write(seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet").state_dict(), place / "net.safetensors")

    write(0)
    backbones = [{"name": "timm/test_resnet", "weights": "net.safetensors"}]
    variants = ["plain", {"policy": "post-residual", "block": "eca"}]
    assert done(place, backbones=backbones, variants=variants)[0] == 4
    (record, *_) = read_folder(place / "runs" / "s")[1]
    assert record.result.weights == "net.safetensors"
    shutil.copytree(place, there := place.parent / "there")
    assert done(there) == (0, [])
    write(1)
    count, said = done(place)
    assert count == 4
    assert "the weights of timm/test_resnet changed" in said[0]


def as_before_digests(place: Path) -> None:
    """Leave the study as it was left then: told apart by everything, the paths included."""
    folder = place / "runs" / "s"
    study = load_study(place / "s.yaml")
    _, records = read_folder(folder)
    for run, record in zip(study.runs, records, strict=True):
        old = run.before_digests
        record.folder.rename(folder / "runs" / old.id)
        (folder / "runs" / old.id / "run.json").write_text(old.model_dump_json())
    data = {"root": str(place / "pictures"), "test_crop": 1.0}
    old_study = study.model_copy(update={"data": study.data.model_copy(update=data)})
    (folder / "study.json").write_text(old_study.model_dump_json(indent=2))
    assert "digests" not in (folder / "study.json").read_text()
    assert len(read_folder(folder)[1]) == 4


def test_runs_from_before_there_were_digests_still_count(place: Path) -> None:
    as_before_digests(place)
    assert done(place) == (0, [])
    (place / "pictures" / "test" / "cat" / "0.png").unlink()
    assert done(place)[0] == 4


@pytest.mark.parametrize("change", ["pictures", "code"])
def test_runs_from_before_there_were_digests_do_not_count_for_others(
    change: str, place: Path
) -> None:
    """As many pictures of the same classes are not the same pictures."""
    as_before_digests(place)
    if change == "pictures":
        for path in (place / "pictures").rglob("*.png"):
            Image.new("RGB", (12, 10), "red").save(path)
        said = "the pictures changed: 16 train, 16 test before, 16 train, 16 test now"
    else:
        code = place / "identitynet.py"
        code.write_text(NET.replace("WIDTH = 4", "WIDTH = 16"))
        said = "the first weights of identitynet:net at seed 0 changed"
    assert done(place) == (4, [f"{said}: its runs are done anew."])
    assert done(place) == (0, [])


def test_without_its_data_a_finished_study_is_still_finished(place: Path) -> None:
    shutil.rmtree(place / "pictures")
    assert done(place) == (0, [])
    with pytest.raises(DataError, match="does not exist"):
        done(place, seeds=[0, 1, 2])
