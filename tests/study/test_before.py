"""What was written before the package had rooms, and before folders had a list, still opens."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from before import BEFORE, old_study
from studies import Log
from torch import nn

import attnzoo
from attnzoo.study import run_study, write_report


def test_an_old_study_is_reported_anew_with_the_same_numbers(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    told = {name: (folder / name).read_text() for name in ("results.csv", "comparisons.csv")}
    write_report(folder)
    assert told == {name: (folder / name).read_text() for name in told}
    assert (folder / "figures" / "accuracy.svg").is_file()


def test_an_old_study_goes_on_with_nothing_to_do(tmp_path: Path) -> None:
    folder = old_study(tmp_path / "study")
    study = yaml.safe_load((BEFORE / "study.yaml").read_text())
    log = Log()
    outcome = run_study({**study, "measure": False}, folder, watch=log)
    assert log.names == []
    assert (outcome.repeated, len(outcome.records), outcome.failures) == (0, 4, [])


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
