"""Interrupted and taken up again, a training ends as it would have: bit for bit on a CPU."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from training import DATA, BreakdownError, Ends, network, recipe

from attnzoo.train import FitResult, Interrupted, TrainRecipe, fit, open_data
from attnzoo.train.state import CHECKPOINT


def same(result: FitResult, other: FitResult) -> None:
    timeless = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        for rows in (result.epochs, other.epochs)
    ]
    assert timeless[0] == timeless[1]


KINDS = {
    "adamw": {},
    "sgd, clipped": {"optimizer": "sgd", "lr": 0.05, "clip_norm": 0.1},
    "mixed, averaged": {"mixup": 0.4, "cutmix": 1.0, "ema": 0.9},
    "accumulated": {"accumulate": 2},
    "unfrozen": {"freeze": "4", "unfreeze": {2: "4", 3: "all"}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "ends",
    [{"step": 5}, {"epoch": 2}, {"step": 7, "how": BreakdownError}],
    ids=["step", "epoch", "crash"],
)
def test_it_goes_on_to_the_same_end(kind: str, ends: dict[str, Any], tmp_path: Path) -> None:
    how, data = recipe(epochs=3, **KINDS[kind]), open_data(DATA)
    whole, parts = network(), network()
    uninterrupted = fit(whole, data, how)
    with pytest.raises(BreakdownError if ends.get("how") else Interrupted):
        fit(parts, data, how, folder=tmp_path, watch=Ends(**ends))
    torch.rand(5)
    again, watch = network(), Ends()
    result = fit(again, data, how, folder=tmp_path, watch=watch)
    assert "taken up again at epoch" in watch.said[0]
    same(result, uninterrupted)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert not (tmp_path / CHECKPOINT).exists()


def test_interrupted_again_and_again(tmp_path: Path) -> None:
    how, data, whole = recipe(epochs=2), open_data(DATA), network()
    uninterrupted = fit(whole, data, how)
    for step in (1, 3, 5):  # heard after the next one; the last time in the test that follows it
        with pytest.raises(Interrupted):
            fit(network(), data, how, folder=tmp_path, watch=Ends(step=step))
    again = network()
    same(fit(again, data, how, folder=tmp_path), uninterrupted)
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


def interrupted(folder: Path, how: TrainRecipe) -> None:
    with pytest.raises(Interrupted):
        fit(network(), open_data(DATA), how, folder=folder, watch=Ends(step=2))


def test_another_trainings_checkpoint_is_left_aside(tmp_path: Path) -> None:
    interrupted(tmp_path, recipe(lr=0.1))
    watch, again, fresh = Ends(), network(), network()
    fit(again, open_data(DATA), recipe(), folder=tmp_path, watch=watch)
    assert "starts anew: it is of another run" in watch.said[0]
    fit(fresh, open_data(DATA), recipe())
    assert all(map(torch.equal, fresh.state_dict().values(), again.state_dict().values()))


@pytest.mark.parametrize("damage", ["cut off", "no archive", "other network"])
def test_a_damaged_checkpoint_is_left_aside(damage: str, tmp_path: Path) -> None:
    interrupted(tmp_path, recipe())
    path = tmp_path / CHECKPOINT
    if damage == "other network":
        state = torch.load(path, weights_only=True)
        state["model"].popitem()
        torch.save(state, path)
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "cut off" else b"nothing")
    watch = Ends()
    assert len(fit(network(), open_data(DATA), recipe(), folder=tmp_path, watch=watch).epochs) == 2
    why = "of another network" if damage == "other network" else "damaged"
    assert f"starts anew: it is {why}" in watch.said[0]


def test_a_checkpoint_executes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"format": 1, "identity": Evil()}, tmp_path / CHECKPOINT)
    watch = Ends()
    fit(network(), open_data(DATA), recipe(epochs=1), folder=tmp_path, watch=watch)
    assert "damaged" in watch.said[0]
    assert not (tmp_path / "executed").exists()


def test_a_loss_scale_is_kept(tmp_path: Path) -> None:
    def half() -> Any:
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        return Fabric(
            accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler)
        )

    how, data, whole, again = recipe(clip_norm=1.0), open_data(DATA), network(), network()
    scaled = half()
    uninterrupted = fit(whole, data, how, fabric=scaled)
    assert scaled.strategy.precision.scaler.get_scale() > 8
    with pytest.raises(Interrupted):
        fit(network(), data, how, folder=tmp_path, watch=Ends(step=3), fabric=half())
    same(fit(again, data, how, folder=tmp_path, fabric=half()), uninterrupted)
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))
