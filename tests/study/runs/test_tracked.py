"""Studies in trackers: one group, one parent, tags, and verdicts at the end; with fakes of both."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from studies import STUDY, Log

from attnzoo.study import run_study

CONTENT: dict[str, Any] = {**STUDY, "train": {**STUDY["train"], "loggers": ["wandb", "mlflow"]}}


class Logger:
    """Lightning's logger of either, which remembers what it was made with."""

    made: list[dict[str, Any]]

    def __init__(self, **options: Any) -> None:
        self.made.append(options)

    def log_hyperparams(self, options: Any) -> None:
        pass

    def log_metrics(self, numbers: Any, step: int) -> None:
        pass

    def finalize(self, status: str) -> None:
        pass


class Client:
    """MLflow's, with what was created, in one place."""

    runs: list[Any]
    closed: list[str]

    def __init__(self, tracking_uri: str) -> None:
        assert tracking_uri == "sqlite:///here.db"

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if self.runs else None

    def create_experiment(self, name: str) -> str:
        assert name == "attnzoo"
        return "7"

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        run = SimpleNamespace(
            info=SimpleNamespace(run_id=f"run{len(self.runs)}", name=run_name),
            data=SimpleNamespace(tags=dict(tags)),
        )
        self.runs.append(run)
        return run

    def set_tag(self, run: str, key: str, value: str) -> None:
        assert re.fullmatch(r"[\w .:/-]+", key, re.ASCII)
        next(r for r in self.runs if r.info.run_id == run).data.tags[key] = value

    def search_runs(self, experiments: list[str], which: str, page_token: Any) -> Any:
        class Page(list):
            token = None

        parent = which.rpartition("'")[0].rpartition("'")[2]
        under = "mlflow.parentRunId"
        return Page(r for r in self.runs if r.data.tags.get(under) == parent)

    def set_terminated(self, run: str) -> None:
        self.closed.append(run)


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Both trackers, faked."""
    for package in ("lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    home: Any = ModuleType("lightning.pytorch.loggers")
    home.WandbLogger = type("WandbLogger", (Logger,), {"made": []})

    class Mlflow(Logger):
        made: list[dict[str, Any]] = []  # noqa: RUF012

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            Client("sqlite:///here.db").create_run("7", options["run_name"], options["tags"])

    home.MLFlowLogger = Mlflow
    monkeypatch.setitem(sys.modules, home.__name__, home)
    Client.runs, Client.closed = [], []
    mlflow, wandb = ModuleType("mlflow"), ModuleType("wandb")
    mlflow.MlflowClient = Client  # type: ignore[attr-defined]
    extra: list[Any] = []

    def init(**options: Any) -> Any:
        extra.append(SimpleNamespace(options=options, summary={}, finish=lambda: None))
        return extra[-1]

    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here.db")
    return SimpleNamespace(wandb=home.WandbLogger.made, mlflow=Mlflow.made, extra=extra)


def test_runs_of_a_study_are_one_group_and_have_their_verdicts(
    tmp_path: Path, trackers: SimpleNamespace
) -> None:
    run_study(CONTENT, tmp_path, watch=Log())
    assert len(trackers.wandb) == len(trackers.mlflow) == 4
    assert {options["group"] for options in trackers.wandb} == {STUDY["name"]}
    assert trackers.wandb[0]["tags"][:3] == [
        "backbone: training:tiny_net",
        "variant: plain",
        "seed: 0",
    ]
    parent, *children = Client.runs
    assert parent.info.name == STUDY["name"]
    assert Client.closed == [parent.info.run_id]
    for child in children:
        tags = child.data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["backbone"] == "training:tiny_net"
        assert ("verdict" in tags) == (tags["variant"] != "plain")
    assert children[1].data.tags["verdict"] == "no evidence (against plain)"
    (verdicts,) = trackers.extra
    assert verdicts.options["group"] == STUDY["name"]
    assert verdicts.summary == {"training:tiny_net, pre-pool + se": "no evidence (against plain)"}


def test_a_study_that_goes_on_stays_under_its_parent(
    tmp_path: Path, trackers: SimpleNamespace
) -> None:
    run_study({**CONTENT, "seeds": [0]}, tmp_path, watch=Log())
    parent = json.loads((tmp_path / "tracked.json").read_text())["parent"]
    run_study(CONTENT, tmp_path, watch=Log())
    assert {options["tags"]["mlflow.parentRunId"] for options in trackers.mlflow} == {parent}
    assert len(trackers.mlflow) == 4


def test_a_tracker_out_of_reach_costs_a_warning(
    tmp_path: Path, trackers: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(sys.modules["wandb"], "init", away)
    with pytest.warns(UserWarning, match="wandb does not have the verdicts: nobody there"):
        outcome = run_study(CONTENT, tmp_path, watch=Log())
    assert outcome.report.is_file()


def test_without_trackers_nothing_is_left(tmp_path: Path) -> None:
    run_study({**STUDY, "seeds": [0]}, tmp_path, watch=Log())
    assert not (tmp_path / "tracked.json").exists()
