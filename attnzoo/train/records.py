"""What a training writes while it goes on: metrics.csv, TensorBoard's events, other loggers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnzoo.errors import OptionError
from attnzoo.files import written_whole
from attnzoo.train.extras import MissingExtraError, require
from attnzoo.train.tracking import EXPERIMENT, Tracking, mlflow_server

__all__ = ["METRICS", "TENSORBOARD", "Records"]

METRICS, TENSORBOARD = "metrics.csv", "tensorboard"
HOMES = ("lightning.pytorch.loggers", "pytorch_lightning.loggers")  # of W&B's and MLflow's loggers


class Records:
    """Writes the records of one training; without a folder, to the other loggers only.

    Args:
        folder: where `metrics.csv` and `tensorboard/` go, or None.
        name: of the run, for the other loggers.
        loggers: `"wandb"`, `"mlflow"`.
        options: what the run is, for the other loggers.
        done: steps that were done before, where the training is taken up again.
        tracking: where the run stands, for the other loggers.

    Raises:
        MissingExtraError: TensorBoard's writer, or a logger that was asked for, is not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        name: str,
        loggers: Iterable[str],
        options: dict[str, Any],
        done: int = 0,
        tracking: Tracking | None = None,
    ) -> None:
        self.folder = folder
        self.loggers = [_logger(kind, name, folder, tracking or Tracking()) for kind in loggers]
        for logger in self.loggers:
            logger.log_hyperparams(options)
        if folder is not None:
            require("tensorboardX", "tensorboardX")
            lightning = require("lightning_fabric.loggers", "Lightning Fabric")
            # What an interrupted training had logged beyond the step it goes on from is void.
            again = {"purge_step": done, "filename_suffix": f".from{done}"} if done else {}
            self.loggers.append(
                lightning.TensorBoardLogger(folder, name="", version=TENSORBOARD, **again)
            )

    def step(self, number: int, loss: float, lr: float) -> None:
        """Loss and learning rate after so many steps."""
        for logger in self.loggers:
            logger.log_metrics({"step/loss": loss, "step/lr": lr}, number)

    def epoch(self, rows: list[dict[str, Any]]) -> None:
        """An epoch is over, the last of `rows`. The file holds all of them, or those before."""
        row = rows[-1]
        numbers = {f"epoch/{key}": value for key, value in row.items() if value is not None}
        for logger in self.loggers:
            logger.log_metrics(numbers, row["step"])
        self.write(rows)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write `metrics.csv`."""
        if self.folder is None or not rows:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        with written_whole(self.folder / METRICS) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8", newline="")

    def close(self, *, good: bool) -> None:
        """Nothing more is written; the training came to its end, or not."""
        for logger in self.loggers:
            logger.finalize("success" if good else "failed")
            # Lightning leaves a run of W&B open, and the next training would go on in it.
            run = getattr(logger, "_experiment", None)
            if hasattr(run, "finish"):
                run.finish(0 if good else 1)


def _logger(kind: str, name: str, folder: Path | None, tracking: Tracking) -> Any:
    classes = {"wandb": "WandbLogger", "mlflow": "MLFlowLogger"}
    if kind not in classes:
        raise OptionError(f"loggers: {kind!r} is none of {', '.join(classes)}.")
    where = "." if folder is None else str(folder)
    options: dict[str, dict[str, Any]] = {
        "wandb": {"name": name, "project": EXPERIMENT, "save_dir": where, **tracking.wandb},
        "mlflow": {
            "run_name": name,
            "experiment_name": EXPERIMENT,
            "tracking_uri": mlflow_server(),
            **({"tags": tracking.mlflow} if tracking.mlflow else {}),
        },
    }
    for home in HOMES:
        try:
            return getattr(require(home, "lightning"), classes[kind])(**options[kind])
        except MissingExtraError:
            continue
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"loggers: {kind} is not installed ({error}).") from error
    raise MissingExtraError(
        f"loggers: {kind} goes through Lightning's logger, which is not installed. "
        f"pip install lightning {kind}"
    )
