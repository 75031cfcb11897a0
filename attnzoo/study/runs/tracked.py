"""A study in the trackers: its runs are one group, and at the end they have their verdicts.

In Weights & Biases the runs of a study are a group, and one more run of it has the verdicts: what
others logged cannot be changed offline. In MLflow they are under one run, and the verdicts are
tags of theirs and of it.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnzoo.study.definition import Study
from attnzoo.study.runs.writing import write_atomically
from attnzoo.train import EXPERIMENT, RUN_TAG, RunSpec, Tracking, mlflow_server, require

__all__ = ["TRACKED", "begin_tracking", "run_tracking", "tell_verdicts", "tracker_names"]

TRACKED = "tracked.json"
"""MLflow's identity of the run that a study's runs are under, and where it is."""

UNNAMED = re.compile(r"[^\w .:/-]", re.ASCII)
"""What a tag's name cannot have in MLflow."""

Verdicts = Mapping[tuple[str, str], Mapping[str, str]]
"""`(backbone, variant)` → what it is compared with → the verdict."""


def tracker_names(study: Study) -> Sequence[str]:
    """The trackers that a study logs to."""
    return list(dict.fromkeys(name for run in study.runs[:1] for name in run.train.loggers))


def begin_tracking(study: Study, folder: Path) -> str:
    """MLflow's identity of the run that the study's runs are under; "" without MLflow.

    It is made once for a folder and a server.
    """
    if "mlflow" not in tracker_names(study):
        return ""
    server, path = mlflow_server(), folder / TRACKED
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["server"] == server:
            return known["parent"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none is known
    client = _client(server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    made = client.create_run(number, run_name=study.name, tags={"attnzoo.study": study.name})
    parent = made.info.run_id
    told = {"server": server, "experiment": number, "parent": parent}
    write_atomically(path, json.dumps(told))
    return parent


def run_tracking(study: Study, run: RunSpec, parent: str) -> Tracking:
    """What trackers are told of one run of a study."""
    tags = {
        "backbone": run.backbone,
        "variant": run.variant.title,
        "seed": str(run.train.seed),
        RUN_TAG: run.id,
    }
    return Tracking(study.name, parent, tags)


def tell_verdicts(study: Study, folder: Path, verdicts: Verdicts) -> None:
    """Tell the trackers what the study found; one that is out of reach costs a warning."""
    tell = {"mlflow": _tell_mlflow, "wandb": _tell_wandb}
    for name in tracker_names(study) if verdicts else ():
        try:
            tell[name](study, folder, verdicts)
        except Exception as error:  # the study is done, whatever a tracker raises
            warnings.warn(f"{name} does not have the verdicts: {error}", stacklevel=2)


def _tell_mlflow(study: Study, folder: Path, verdicts: Verdicts) -> None:
    parent = begin_tracking(study, folder)
    known = json.loads((folder / TRACKED).read_text(encoding="utf-8"))
    client = _client(known["server"])
    for (backbone, variant), told in verdicts.items():
        key = UNNAMED.sub("-", f"{backbone} {variant}")[:250]
        client.set_tag(parent, key, _told(told))
    page: Any = None
    while page is None or page.token:
        page = client.search_runs(
            [known["experiment"]],
            f"tags.`mlflow.parentRunId` = '{parent}'",
            page_token=page.token if page is not None else None,
        )
        for run in page:
            found = verdicts.get((run.data.tags.get("backbone"), run.data.tags.get("variant")))
            if found:
                client.set_tag(run.info.run_id, "verdict", _told(found))
    client.set_terminated(parent)


def _tell_wandb(study: Study, folder: Path, verdicts: Verdicts) -> None:
    wandb: Any = require("wandb", "wandb")
    run = wandb.init(
        project=EXPERIMENT,
        dir=str(folder),
        group=study.name,
        name=f"{study.name}: verdicts",
        job_type="verdicts",
        tags=["verdicts"],
    )
    for (backbone, variant), told in verdicts.items():
        run.summary[f"{backbone}, {variant}"] = _told(told)
    run.finish()


def _told(verdicts: Mapping[str, str]) -> str:
    return "; ".join(f"{verdict} (against {baseline})" for baseline, verdict in verdicts.items())


def _client(server: str) -> Any:
    return require("mlflow", "mlflow").MlflowClient(tracking_uri=server)
