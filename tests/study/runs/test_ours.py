"""Only what attnzoo wrote into a folder is replaced or removed there."""

from __future__ import annotations

from pathlib import Path

import pytest
from before import BEFORE, old_study

from attnzoo.cli import main
from attnzoo.errors import StudyError
from attnzoo.study import write_comparison, write_report
from attnzoo.study.runs import check_folder, remove, take, written

MINE = ("data.json", "results.csv", "report.md", "report.html", "study.json", "costs.json")


@pytest.mark.parametrize("name", [*MINE, "figures/fig1.pdf"])
def test_a_folder_with_files_of_somebody_elses_is_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for more in ([], ["--dry-run"]):
        assert main(["ablate", str(BEFORE / "study.yaml"), "--out", str(tmp_path), *more]) == 1
        assert name.partition("/")[0] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]
    assert (tmp_path / name).read_text() == "mine"


def test_a_comparison_is_written_into_no_folder_of_somebody_elses(tmp_path: Path) -> None:
    one, two = old_study(tmp_path / "one"), old_study(tmp_path / "two")
    out = tmp_path / "paper"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "fig1.pdf").write_text("mine")
    with pytest.raises(StudyError, match="figures"):
        write_comparison([one, two], out)
    assert [path.name for path in out.rglob("*")] == ["figures", "fig1.pdf"]
    write_comparison([one, two], tmp_path / "both")
    (tmp_path / "both" / "notes.txt").write_text("mine")
    write_comparison([one, two], tmp_path / "both")  # again, beside what is not ours
    assert (tmp_path / "both" / "notes.txt").read_text() == "mine"


def test_figures_of_the_users_stay_and_old_ones_of_ours_go(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    (folder / "figures").mkdir()
    (folder / "figures" / "mine.pdf").write_text("mine")
    write_report(folder)
    take(folder, ["figures/old.svg"])
    (folder / "figures" / "old.svg").write_text("<svg/>")
    write_report(folder)
    assert (folder / "figures" / "mine.pdf").read_text() == "mine"
    assert not (folder / "figures" / "old.svg").exists()
    assert "figures/old.svg" not in written(folder)


def test_a_figure_by_the_name_of_ours_is_refused(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    (folder / "report.md").write_text("# without figures")
    (folder / "figures").mkdir()
    (folder / "figures" / "accuracy.svg").write_text("mine")
    with pytest.raises(StudyError, match=r"accuracy\.svg"):
        write_report(folder)
    assert (folder / "figures" / "accuracy.svg").read_text() == "mine"


def test_a_folder_may_hold_other_files_than_ours(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    (tmp_path / "runs" / "another").mkdir(parents=True)
    take(tmp_path, ["report.md"])
    (tmp_path / "report.md").write_text("ours")
    check_folder(tmp_path, ["report.md"])
    assert written(tmp_path) == {"report.md"}
    remove(tmp_path, ["report.md", "README"])
    assert (tmp_path / "README").read_text() == "mine"
    assert not (tmp_path / "report.md").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StudyError, match="is a file"):
        take(tmp_path / "out", ["report.md"])


def test_a_lost_list_is_found_again_from_the_study(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    write_report(folder)
    listed = written(folder)
    for damage in ("", "[", '{"written": 3}', "[]"):
        (folder / ".attnzoo.json").write_text(damage)
        assert written(folder) == listed
