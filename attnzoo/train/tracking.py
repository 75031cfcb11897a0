"""Where a run stands in a tracker: the group that it belongs to, and its tags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EXPERIMENT", "RUN_TAG", "Tracking", "mlflow_server"]

EXPERIMENT = "attnzoo"
"""MLflow's experiment, and the project at Weights & Biases."""

RUN_TAG = "attnzoo.run"
"""The tag with the run's identity, by which it is found again."""

PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Tracking:
    """What trackers are told of a run beside its numbers.

    Attributes:
        group: of runs that belong together, such as a study; "" is none.
        parent: of those, MLflow's identity of the run that they are under; "" is none.
        tags: name → value, such as backbone, variant and seed.
    """

    group: str = ""
    parent: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def wandb(self) -> dict[str, object]:
        """Arguments of `wandb.init`; its tags are words, of at most 64 letters."""
        told: dict[str, object] = {}
        if self.group:
            told["group"] = self.group
        if self.tags:
            told["tags"] = [f"{key}: {value}"[:64] for key, value in self.tags.items()]
        return told

    @property
    def mlflow(self) -> dict[str, str]:
        """Tags of a run of MLflow's."""
        parent = {PARENT: self.parent} if self.parent else {}
        group = {"attnzoo.study": self.group} if self.group else {}
        return {**self.tags, **group, **parent}


def mlflow_server() -> str:
    """Where MLflow's runs go: what `MLFLOW_TRACKING_URI` says, else a file in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
