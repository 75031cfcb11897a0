"""Measured costs: what is counted is exact, what is timed takes turns, nothing is done twice."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attnzoo.errors import OptionError, StudyError
from attnzoo.study import parse_study
from attnzoo.study.numbers import measure
from attnzoo.study.numbers.costs import BackboneCosts, Costs, read_costs
from attnzoo.study.numbers.measure import is_measured, measure_costs, saved_bytes
from attnzoo.train import RunSpec

STUDY: dict[str, Any] = {
    "name": "costs",
    "data": {"name": "cluttered-digits", "size": 16, "train": 32, "test": 16},
    "train": {"batch_size": 4, "device": "cpu"},
    "seeds": [3, 5],
    "backbones": ["training:tiny_net"],
    "variants": ["plain", {"policy": "pre-pool", "block": "se"}],
    "controls": False,
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)


def kept(model: nn.Module, images: torch.Tensor) -> int:
    labels = torch.zeros(len(images), dtype=torch.long)
    return saved_bytes(model, images, labels, nullcontext)


def test_the_bytes_of_a_step_are_counted_exactly() -> None:
    images = torch.randn(4, 3, 8, 8)
    scores = 4 * 5 * 4  # bytes of what the loss keeps: log-probabilities of 4 images, 5 classes
    total = 4  # and the sum of the weights, a scalar

    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    # The linear layer keeps a view of the images, which are there anyway.
    assert kept(linear, images) == scores + total
    # A second one keeps what the first one made.
    two = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Linear(7, 5))
    assert kept(two, images) == 4 * 7 * 4 + scores + total
    # ReLU keeps its result, which the linear layer after it keeps as well: counted once.
    relu = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 5))
    assert kept(relu, images) == 4 * 7 * 4 + scores + total
    sigmoid = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Sigmoid(), nn.Linear(7, 5))
    assert kept(sigmoid, images) == 4 * 7 * 4 + scores + total
    # Only the loss is left where nothing is to be learned.
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Linear(7, 5))
    frozen[1].requires_grad_(False)
    frozen[2].weight.requires_grad_(False)
    assert kept(frozen, images) == scores + total


def test_twice_the_images_keep_twice_the_bytes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 5))
    one, two = (kept(model, torch.randn(n, 3, 8, 8)) - 4 for n in (2, 4))
    assert two == 2 * one


def test_calls_take_turns_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", (3, 3))
    said: list[str] = []
    calls = [lambda name=name: said.append(name) for name in "abc"]
    times = measure._times(calls, torch.device("cpu"))
    assert "".join(said) == "abc" + "cba" + "abc" + "cba"
    assert times.shape == (3, 3)
    assert (times >= 0).all()


def test_time_bounds_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(measure._times([lambda: None], torch.device("cpu"))) == 3
    monkeypatch.setattr(measure, "SECONDS", 60.0)
    assert len(measure._times([lambda: None], torch.device("cpu"))) == 40


def test_quartiles() -> None:
    spread = measure._spread(np.arange(101.0))
    assert (spread.low, spread.median, spread.high) == (25, 50, 75)


def test_every_variant_is_measured(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    costs = measure_costs(parse_study(STUDY), tmp_path, classes=10)
    assert torch.equal(torch.get_rng_state(), state)
    (entry,) = costs.backbones
    assert (entry.batch_size, entry.size, entry.failed) == (4, 16, "")
    plain, se = entry.variants
    assert (plain.variant, se.variant) == ("plain", "pre-pool + se")
    assert plain.slowdown.median == plain.slowdown.low == 1
    for variant in entry.variants:
        assert 0 < variant.latency.low <= variant.latency.median <= variant.latency.high
        assert variant.images_per_second.median > 0
        assert variant.peak_bytes is None
    # The block keeps at least the map that it multiplies, and γ's other operand.
    assert se.saved_bytes >= plain.saved_bytes + 4 * 8 * 16 * 16 * 4
    assert read_costs(tmp_path) == costs
    assert costs.of("training:tiny_net", "plain") == plain
    assert costs.of("training:tiny_net", "other") is None
    assert costs.of("other", "plain") is None


def test_what_is_known_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    take = measure._measured

    def counting(runs: Any, classes: int) -> BackboneCosts:
        measured.append(runs[0].backbone)
        return take(runs, classes)

    monkeypatch.setattr(measure, "_measured", counting)
    first = measure_costs(parse_study(STUDY), tmp_path, classes=10)
    assert measure_costs(parse_study(STUDY), tmp_path, classes=10) == first
    assert len(measured) == 1
    more = {**STUDY, "variants": [*STUDY["variants"], {"policy": "pre-pool", "block": "eca"}]}
    second = measure_costs(parse_study(more), tmp_path, classes=10)
    assert len(measured) == 2
    assert [len(entry.variants) for entry in second.backbones] == [3]
    monkeypatch.setattr(measure, "_device_text", lambda run: "another machine")
    (third,) = measure_costs(parse_study(more), tmp_path, classes=10).backbones
    assert (len(measured), third.device) == (3, "another machine")


def test_whether_there_is_anything_left_to_measure(tmp_path: Path) -> None:
    study = parse_study(STUDY)
    assert not is_measured(study, tmp_path)
    measure_costs(study, tmp_path, classes=10)
    assert is_measured(study, tmp_path)
    assert not is_measured(parse_study({**STUDY, "train": {"batch_size": 8}}), tmp_path)
    assert is_measured(parse_study({**STUDY, "measure": False}), tmp_path / "other")


def test_accumulated_passes_are_measured_as_they_are_trained(tmp_path: Path) -> None:
    train = {**STUDY["train"], "accumulate": 2}
    costs = measure_costs(parse_study({**STUDY, "train": train}), tmp_path, classes=10)
    assert costs.backbones[0].batch_size == 2
    whole = measure_costs(parse_study(STUDY), tmp_path, classes=10)
    kept = [c.backbones[0].variants[0].saved_bytes for c in (costs, whole)]
    assert kept[0] < kept[1] < 2.1 * kept[0]


def test_a_study_can_decline(tmp_path: Path) -> None:
    study = parse_study({**STUDY, "measure": False})
    assert measure_costs(study, tmp_path, classes=10) == Costs()
    assert not (tmp_path / "costs.json").exists()
    with pytest.raises(StudyError, match=r"measure: must be true or false \(given: 'no'\)"):
        parse_study({**STUDY, "measure": "no"})


def test_what_cannot_be_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("no room\nfor this")

    monkeypatch.setattr(measure, "_memory", full)
    (entry,) = measure_costs(parse_study(STUDY), tmp_path, classes=10).backbones
    assert entry.failed == "OutOfMemoryError: no room"
    assert entry.variants == ()


def test_runs_of_another_machine_are_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(recipe: Any) -> None:
        raise OptionError("device='cuda' is not available here.")

    monkeypatch.setattr(measure, "launch", elsewhere)
    study = parse_study(STUDY)
    (entry,) = measure_costs(study, tmp_path, classes=10).backbones
    assert (entry.device, entry.variants) == ("no cpu here", ())
    assert entry.failed == "OptionError: device='cuda' is not available here."
    assert is_measured(study, tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_costs(tmp_path) is None
    (tmp_path / "costs.json").write_text("{")
    with pytest.raises(StudyError, match=r"costs\.json is damaged; `attnzoo ablate` measures anew"):
        read_costs(tmp_path)


def test_what_was_measured_counts_wherever_the_pictures_are() -> None:
    def key(root: str, size: int = 32) -> str:
        content = {
            "backbone": "timm/test_resnet",
            "data": {"name": "folder", "root": root, "size": size},
            "digests": {"data": "16 train, 16 test (12ab)"},
        }
        return measure._key([RunSpec.model_validate(content)])

    assert key("/here/pictures") == key("/there/pictures")
    assert key("/here/pictures", 64) != key("/here/pictures")
