"""One run: the same start for every variant, and a folder that is there whole or not at all."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import DATA, Ends, spec

import attnzoo
from attnzoo.errors import NoSitesError, OptionError, TraceError
from attnzoo.train import Interrupted, ProgressWatch, RunSpec, Variant, Watch, train
from attnzoo.train.start import build

SE = {"policy": "pre-pool", "block": "se", "options": {"reduction": 4}}


def test_a_finished_run_leaves_everything(tmp_path: Path) -> None:
    result = train(spec(variant=SE), tmp_path / "run")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run"]
    names = sorted(entry.name for entry in (tmp_path / "run").iterdir())
    assert names == [
        *("attention.safetensors", "environment.json", "log.txt", "maps.npz", "metrics.csv"),
        *("network.safetensors", "predictions.npz", "result.json", "run.json", "tensorboard"),
    ]
    assert (result.sites, result.places) == (1, "pre-pool")
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["top1"] == result.top1
    assert (
        RunSpec.model_validate_json((tmp_path / "run" / "run.json").read_text()).variant.block
        == "se"
    )


def test_the_saved_attention_is_the_trained_one(tmp_path: Path) -> None:
    train(spec(variant=SE), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "attention.safetensors")
    gammas = [tensor for name, tensor in weights.items() if name.endswith("gamma")]
    assert len(gammas) == 1
    assert all(gamma.abs().sum() > 0 for gamma in gammas)


def test_a_plain_run_has_no_attention_to_save(tmp_path: Path) -> None:
    result = train(spec(), tmp_path / "run")
    assert (result.sites, result.places) == (0, "")
    assert result.gamma is None
    assert not (tmp_path / "run" / "attention.safetensors").exists()


def test_variants_start_from_the_same_backbone() -> None:
    first = build(RunSpec(**spec()), 10)
    torch.rand(9)
    second = build(RunSpec(**spec(variant=SE)), 10)
    plain, wrapped = first.model, second.model
    assert first.fingerprint == second.fingerprint
    attnzoo.unwrap(wrapped)
    for key, tensor in plain.state_dict().items():
        assert torch.equal(tensor, wrapped.state_dict()[key]), key
    other = spec(train={"seed": 1})
    assert build(RunSpec(**other), 10).fingerprint != first.fingerprint


def test_a_run_repeats_to_the_last_digit() -> None:
    first, second = train(spec(variant=SE)), train(spec(variant=SE))
    assert (first.top1, first.test_loss, first.gamma) == (
        second.top1,
        second.test_loss,
        second.gamma,
    )


def without_times(folder: Path) -> tuple[Any, Any]:
    result = json.loads((folder / "result.json").read_text())
    rows = [line.rpartition(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()]
    timed = ("seconds", "train_seconds", "images_per_second")
    return {key: value for key, value in result.items() if key not in timed}, rows


@pytest.mark.parametrize("ends", [{"step": 1}, {"epoch": 1}, {"step": 4}])
def test_an_interrupted_run_is_not_there_and_goes_on_to_the_same_end(
    ends: dict[str, int], tmp_path: Path
) -> None:
    run = spec(variant=SE, train={**spec()["train"], "epochs": 2})
    with pytest.raises(Interrupted) as interruption:
        train(run, tmp_path / "run", watch=Ends(**ends, how=signal.SIGINT))
    assert interruption.value.exit_code == 130
    assert {entry.name for entry in tmp_path.iterdir()} == {".run.lock", ".run.partial"}
    watch = Ends()
    train(run, tmp_path / "run", watch=watch)
    assert "taken up again" in watch.said[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    train(run, tmp_path / "whole")
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")
    first, second = (load_file(tmp_path / f / "attention.safetensors") for f in ("run", "whole"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_another_runs_rest_is_left_aside(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(spec(), tmp_path / "run", watch=Ends(step=1))
    watch = Ends()
    train(spec(variant=SE), tmp_path / "run", watch=watch)
    assert "starts anew: it is of another run" in watch.said[0]


@pytest.mark.filterwarnings("ignore:values decide:UserWarning")
def test_a_network_that_can_be_followed_only_in_part_is_refused_where_asked(tmp_path: Path) -> None:
    own = {**spec(variant=SE), "backbone": "training:choosing_net"}
    strict = {**own, "strict": True}
    with pytest.raises(TraceError, match="strict=True: values decide") as caught:
        train(strict, tmp_path / "run")
    assert "The data make images" not in str(caught.value)
    first = train(own, tmp_path / "run")
    assert RunSpec(**own).id == RunSpec(**strict).id
    with pytest.raises(TraceError, match="strict=True: values decide"):
        train(strict, tmp_path / "run")  # though it is done
    train(spec(variant=SE), tmp_path / "other")
    assert train({**spec(variant=SE), "strict": True}, tmp_path / "other").sites == first.sites


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first = train(spec(), tmp_path / "run")
    assert train(spec(), tmp_path / "run") == first
    logged = spec(train={**spec()["train"], "loggers": ["wandb"]})
    assert train(logged, tmp_path / "run") == first  # where it is logged changes no result
    with pytest.raises(OptionError, match="holds another run"):
        train(spec(variant=SE), tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    assert train(spec(), tmp_path / "run").top1 == first.top1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(OptionError, match="holds no run"):
        train(spec(), tmp_path / "mine")
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_fewer_outputs_than_classes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"returns \(1, 4\) .* the data have 10 classes"):
        train(spec(backbone_options={"num_classes": 4}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    hot = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "lr": 1e30, "warmup_epochs": 0}
    result = train(spec(train=hot, variant=SE), tmp_path / "run")
    assert result.status == "diverged"
    assert result.top1 is None
    assert "lower lr=1e+30" in result.message
    assert (tmp_path / "run" / "result.json").exists()
    weights = load_file(tmp_path / "run" / "attention.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_nothing_to_wrap_is_an_error_and_leaves_no_run(tmp_path: Path) -> None:
    variant = {"policy": "transition", "block": "se"}
    with pytest.raises(NoSitesError):
        train(spec(variant=variant), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_description() -> None:
    with pytest.raises(OptionError, match=r"run\.backbon: there is no such key.*'backbone'"):
        train({"backbon": "timm/resnet18", "data": DATA})


def test_ids_tell_runs_apart() -> None:
    runs = [
        spec(),
        spec(variant=SE),
        spec(variant={**SE, "options": {}}),
        spec(train={"seed": 1}),
        spec(train={"lr": 0.5}),
        spec(data={**DATA, "clutter": 2}),
    ]
    ids = [RunSpec(**run).id for run in runs]
    assert len(set(ids)) == len(ids)
    assert RunSpec(**spec()).id == ids[0]
    assert all("/" not in name and " " not in name and ":" not in name for name in ids)


@pytest.mark.parametrize(
    ("variant", "title"),
    [
        ({}, "plain"),
        ({"name": "mine", "policy": "auto"}, "mine"),
        ({"policy": "auto"}, "auto + local"),
        (SE, "pre-pool + se reduction=4"),
        (
            {"policy": ["in-residual", {"stages": [3, 4]}], "start": "paper"},
            "in-residual(stages=[3, 4]) + local (paper)",
        ),
        ({"policy": ["pre-pool", "stage-end"]}, "pre-pool + stage-end + local"),
    ],
)
def test_titles(variant: dict[str, Any], title: str) -> None:
    assert Variant(**variant).title == title


def test_progress_is_one_line_a_run_without_a_terminal() -> None:
    import io

    from rich.console import Console

    out = io.StringIO()
    with ProgressWatch(Console(file=out)) as watch:
        train(spec(), watch=watch)
        train(spec(variant=SE), watch=watch)
    lines = out.getvalue().strip().splitlines()
    assert len(lines) == 2
    assert "plain, seed 0: top-1" in lines[0]
    assert "pre-pool + se reduction=4" in lines[1]


def test_progress_bars_in_a_terminal() -> None:
    import io

    from rich.console import Console

    out = io.StringIO()
    with ProgressWatch(Console(file=out, force_terminal=True, width=120)) as watch:
        train(spec(), watch=watch)
    assert "loss" in out.getvalue()
    assert "Preparing" in out.getvalue()


class Steps(Watch):
    """Counts them."""

    count = 0

    def step(self, loss: float | None = None) -> None:
        self.count += 1


@pytest.mark.parametrize(("killed_at", "steps"), [("save", (0,)), ("_publish", (0,))])
def test_a_run_killed_when_it_was_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str, steps: tuple[int, ...]
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    run = spec(variant=SE, train={**spec()["train"], "epochs": 2})
    alone = train(run, tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr(f"attnzoo.train.run.{killed_at}", killed)
        with pytest.raises(KilledError):
            train(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    watch = Steps()
    again = train(run, tmp_path / "run", watch=watch)
    assert watch.count in steps
    assert (again.top1, again.test_loss, again.gamma) == (
        alone.top1,
        alone.test_loss,
        alone.gamma,
    )
    names = [{entry.name for entry in (tmp_path / n).iterdir()} for n in ("run", "alone")]
    assert names[0] == names[1]
