"""A run as a folder for others: its network, and a card with what it came to."""

from __future__ import annotations

import os
from pathlib import Path

from attnzoo.sharing import save_pretrained
from attnzoo.train import RESULT, RunResult, RunSpec
from attnzoo.trained.opening import TrainedNetwork, open_network

__all__ = ["share"]

METRICS = ("top1", "top5", "balanced", "macro_f1", "calibration_error", "map", "f1", "mae", "r2")


def share(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
) -> Path:
    """Write the network that a run kept as a folder for others, with its results on the card.

    Args:
        run: the run's folder, or its `network.safetensors`.
        folder: as in `attnzoo.save_pretrained`.
        name: as there.
        license: as there.

    Raises:
        CheckpointError: the run kept its attention alone, or the folder cannot be written.
        NotWrappedError: its network is plain.
    """
    network = open_network(run)
    results = _results(Path(run))
    return save_pretrained(
        network.model,
        folder,
        network=network.recipe,
        name=name,
        license=license,
        results=results,
        data=_data(network.run) if results else "",
        task=_task(network),
    )


def _results(run: Path) -> dict[str, float]:
    """Of a run that is over, and on its last epoch; none where only its network is given."""
    folder = run if run.is_dir() else run.parent
    try:
        found = RunResult.model_validate_json((folder / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    told = ((metric, getattr(found, metric)) for metric in METRICS)
    return {metric: value for metric, value in told if value is not None}


def _data(run: RunSpec | None) -> str:
    """The name of the data, or of their folder or table; where they lie is nobody's business."""
    if run is None:
        return "the run's test images"
    name = getattr(run.data, "dataset", "") or Path(getattr(run.data, "root", "")).name
    return f"{name or run.data.name}, its test images"


def _task(network: TrainedNetwork) -> str:
    return "image-classification" if network.classes else "image-feature-extraction"
