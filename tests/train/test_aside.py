"""What is in the way of a training is renamed and kept."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from attnzoo.train import TrainRecipe, Watch, fit, open_data, put_aside


def test_names_are_free_ones(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "x").write_text(str(number))
        assert put_aside(tmp_path / "x").name == f"x.aside{number}"
    assert (tmp_path / "x.aside1").read_text() == "1"
    assert not (tmp_path / "x").exists()


def test_a_training_of_another_recipe_keeps_what_was_there(tmp_path: Path) -> None:
    class Said(Watch):
        text = ""

        def say(self, line: str) -> None:
            self.text += line

    layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = open_data(
        {"name": "cluttered-digits", "size": 16, "train": 16, "test": 16, "clutter": 1}
    )
    (tmp_path / "checkpoint.pt").write_bytes(b"ninety epochs")
    (tmp_path / "metrics.csv").write_text("ninety rows")
    watch, recipe = Said(), TrainRecipe(epochs=1, batch_size=16, device="cpu")
    fit(nn.Sequential(*layers, nn.Linear(8, 10)), data, recipe, folder=tmp_path, watch=watch)
    assert (tmp_path / "checkpoint.pt.aside1").read_bytes() == b"ninety epochs"
    assert (tmp_path / "metrics.csv.aside1").read_text() == "ninety rows"
    assert "metrics.csv of before is kept as metrics.csv.aside1" in watch.text
    assert (tmp_path / "metrics.csv").read_text().startswith("epoch")
