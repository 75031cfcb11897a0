"""Image files are looked at before training starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from training import make_folder

from attnzoo.errors import DataError
from attnzoo.train import FolderData, open_data
from attnzoo.train.checking import LISTED, check_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folder(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"no image")
    whole = (tmp_path / "train" / "dog" / "2.png").read_bytes()
    (tmp_path / "train" / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "test" / "dog" / "3.png").write_bytes(b"")
    return tmp_path


def test_all_broken_files_of_a_split_are_named(root: Path) -> None:
    with pytest.raises(DataError) as error:
        open_data(FolderData(root=str(root), size=8))
    message = str(error.value)
    assert "2 of 8 files that were looked at cannot be read as images" in message
    assert str(root / "train" / "cat" / "1.png") in message
    assert str(root / "train" / "dog" / "2.png") in message
    for name in ("cat/1", "dog/2"):
        (root / "train" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"1 of 8 .*\n- .*3\.png"):
        open_data(FolderData(root=str(root), size=8))


def test_the_check_can_be_left_out_or_be_partial(root: Path) -> None:
    assert len(open_data(FolderData(root=str(root), size=8, check=0)).train) == 8
    with pytest.raises(DataError, match="of 4 files"):
        open_data(FolderData(root=str(root), size=8, check=4))


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{i}.png") for i in range(LISTED + 7)]
    with pytest.raises(DataError, match=r"\nand 7 more$"):
        check_files("train", files)


def test_sound_files_pass(tmp_path: Path) -> None:
    for kind in ("png", "jpg", "gif", "bmp", "webp"):
        Image.new("RGB", (5, 5)).save(tmp_path / f"a.{kind}")
    check_files("train", [str(path) for path in tmp_path.iterdir()])
    check_files("train", [])
