"""What was written before the package had rooms, and before folders had a list, still opens."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
import yaml
from before import BEFORE, old_study
from studies import Told
from torch import nn

import attnzoo
from attnzoo.study import run_study, write_report


def rows(path: Path) -> list[dict[str, str]]:
    """Of a table, with the names that its columns have now."""
    text = path.read_text().replace("p_holm", "p_corrected")
    return list(csv.DictReader(io.StringIO(text)))


def test_an_old_study_is_reported_anew_with_the_same_numbers(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    tables = ("results.csv", "comparisons.csv")
    told = {name: rows(folder / name) for name in tables}
    write_report(folder)
    for name in tables:  # columns that came since are beside those of before
        assert [
            row.items() & old.items()
            for row, old in zip(rows(folder / name), told[name], strict=True)
        ] == [old.items() for old in told[name]]
    assert (folder / "figures" / "accuracy.svg").is_file()


def test_of_an_old_study_only_what_is_another_block_now_is_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests draw large weights in a way of their own (`draw_large_weights_quickly`).
    monkeypatch.setattr("attnzoo.study.runs.identity._begins_alike", lambda *_: True)
    folder = old_study(tmp_path / "study")
    study = yaml.safe_load((BEFORE / "study.yaml").read_text())
    told = Told()
    outcome = run_study({**study, "measure": False}, folder, watch=told)
    assert [name.split(",")[1].strip() for name in told.names] == ["post-residual + cbam"] * 2
    assert (len(outcome.records), outcome.failures) == (4, [])
    (line,) = told.lines
    change = "what the block is by default of post-residual + cbam changed: floor=1 before, floor=8"
    assert change in line
    again = Told()
    run_study({**study, "measure": False}, folder, watch=again)
    assert again.names == again.lines == []


def test_an_old_file_gives_the_outputs_that_it_gave() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )
    attnzoo.load(BEFORE / "all.safetensors", model).eval()
    found = model(torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16))
    then = [-0.0628853365778923, -0.056772440671920776, -0.0775594711303711, 0.05497349798679352]
    torch.testing.assert_close(found, torch.tensor([then]), rtol=0, atol=1e-6)
