"""One run, from its description to its folder: build, wrap, train, measure, write."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint import ATTENTION, NETWORK, save
from attnzoo.costs import cost
from attnzoo.errors import OptionError
from attnzoo.train.aside import put_aside
from attnzoo.train.claim import claimed
from attnzoo.train.config import parse
from attnzoo.train.data import ImageData, uneven_classes
from attnzoo.train.devices import launch
from attnzoo.train.environment import environment
from attnzoo.train.identity import changes, identified
from attnzoo.train.log import run_log
from attnzoo.train.loop import fit
from attnzoo.train.opened import open_data, unchecked
from attnzoo.train.outcome import result_of, summary, title
from attnzoo.train.predictions import PREDICTIONS, Predictions, save_predictions
from attnzoo.train.saved_maps import MAPS, save_maps
from attnzoo.train.spec import RunResult, RunSpec
from attnzoo.train.start import Start, build, check_followed, fed_by_data
from attnzoo.train.state import CHECKPOINT
from attnzoo.train.tracking import Tracking
from attnzoo.train.watch import Watch

__all__ = ["ENVIRONMENT", "RESULT", "SPEC", "train", "with_digests"]

SPEC = "run.json"
BEST = "best.safetensors"
ENVIRONMENT, LOG = "environment.json", "log.txt"
RESULT = "result.json"
"""A run's folder that holds this file is finished; it is the last one written."""


def train(
    run: RunSpec | Mapping[str, Any],
    folder: str | Path | None = None,
    *,
    data: ImageData | None = None,
    watch: Watch | None = None,
    repository: str | Path = ".",
    tracking: Tracking | None = None,
) -> RunResult:
    """Do one run.

    Args:
        run: what to do.
        folder: where to leave `run.json`, `environment.json`, `log.txt`, `metrics.csv`,
            `attention.safetensors`, `network.safetensors` (as `keep` says), `tensorboard/`,
            `predictions.npz` and `result.json`. They appear together, when the run is over: a
            folder by that name is a finished run, and is not done again. Until then a hidden
            folder beside it, `.<name>.partial`, keeps what an interrupted run goes on from. None
            writes nothing.
        data: what `open_data(run.prepared)` returned, where it is at hand already.
        watch: is told about the progress.
        repository: a folder whose git commit `environment.json` is to tell.
        tracking: group and tags of the run in the recipe's loggers.

    Raises:
        AttnzooError: the run's description is wrong: an unknown name, an option that does not
            exist, no place for attention, missing data; or the folder holds something else.
        RunBusyError: another process is doing this run into the same folder.
        Interrupted: Ctrl-C or SIGTERM came; the same call goes on from where it was.

    Example:
        >>> from attnzoo.train import train
        >>> result = train({
        ...     "backbone": "torchvision/resnet18",
        ...     "variant": {"policy": "auto", "block": "se"},
        ...     "data": {"name": "cluttered-digits", "size": 32, "train": 32, "test": 32},
        ...     "train": {"epochs": 1, "batch_size": 16},
        ... })
        >>> result.sites
        8
    """
    run = parse(RunSpec, run, "run")
    if fault := run.freezing_fault:
        raise OptionError(fault)
    watch = watch or Watch()
    if folder is None:
        data = data or open_data(run.prepared)
        return _do(run, None, data, watch, launch(run.train), tracking)[0]
    folder = Path(folder)
    run = run if run.digests else with_digests(run, data)
    if done := _finished(folder, run):
        if run.strict:
            check_followed(run, len((data or open_data(unchecked(run.prepared))).classes))
        return done
    with claimed(folder) if _is_first_process() else nullcontext():
        # Somebody may have finished it before the claim was had.
        return _finished(folder, run) or _do_into(folder, run, data, watch, repository, tracking)


def with_digests(run: RunSpec, data: ImageData | None = None) -> RunSpec:
    """The run, told apart by its pictures, its code and its weights, wherever they are.

    Args:
        run: what to do.
        data: what `open_data` returned for it, where it is at hand already.
    """
    return identified(run, data or open_data(unchecked(run.prepared)))


def _is_first_process() -> bool:
    """Whether this process is alone, or the first of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _do_into(
    folder: Path,
    run: RunSpec,
    data: ImageData | None,
    watch: Watch,
    repository: str | Path,
    tracking: Tracking | None,
) -> RunResult:
    partial = folder.with_name(f".{folder.name}.partial")
    if _is_first_process() and (result := _result_in(partial, run)):
        _publish(partial, folder)  # killed just before this
        return result
    data = data or open_data(run.prepared)
    fabric = launch(run.train)
    first = fabric.is_global_zero
    if first:
        partial.mkdir(parents=True, exist_ok=True)
    fabric.barrier()
    with run_log(partial / LOG, watch) if first else nullcontext(watch) as watch:
        if first:
            _add_environment(partial / ENVIRONMENT, environment(repository))
        result, model, network, said = _do(run, partial, data, watch, fabric, tracking)
        if first and said is not None:
            save_predictions(said, partial / PREDICTIONS)
        if first and result.sites:
            save(model, partial / ATTENTION, what="attention")
            if result.status == "finished":
                save_maps(model, data, partial / MAPS)
        if first and run.keep != "attention":
            _keep_network(partial, model, network)
    if first:
        _write(partial / SPEC, run.model_dump_json(indent=2))
        _write(partial / RESULT, result.model_dump_json(indent=2))
        _publish(partial, folder)
    fabric.barrier()
    return result


def _write(path: Path, text: str) -> None:
    """Write a file, and wait until it is on the disk: what is renamed after it counts on it."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _keep_network(folder: Path, model: nn.Module, network: NetworkRecipe) -> None:
    """Leave the whole network, as it was after the best epoch where that was kept."""
    if (folder / BEST).is_file():
        model.load_state_dict(load_file(folder / BEST))
    save(model, folder / NETWORK, what="all", network=network)


def _publish(partial: Path, folder: Path) -> None:
    """Make the folder of a run that is over the finished one."""
    for rest in (CHECKPOINT, BEST):
        (partial / rest).unlink(missing_ok=True)  # not before the result is there
    _sync(partial)
    if folder.exists() and any(folder.iterdir()):  # this run without a result that can be read
        put_aside(folder)
    os.replace(partial, folder)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; where the system has no such thing, not."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _result_in(folder: Path, run: RunSpec) -> RunResult | None:
    """The result of this run, where there is one in the folder."""
    try:
        spec = RunSpec.model_validate_json((folder / SPEC).read_text(encoding="utf-8"))
        result = RunResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if spec.id == run.id else None


def _add_environment(path: Path, here: dict[str, Any]) -> None:
    """Add to the environments of a run that was taken up again, where it is another."""
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):  # killed while it was written
        before = []
    if here not in before:
        path.write_text(json.dumps([*before, here], indent=2))


def _finished(folder: Path, run: RunSpec) -> RunResult | None:
    """The result of this run, where the folder holds it.

    Raises:
        OptionError: the folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        spec = RunSpec.model_validate_json((folder / SPEC).read_text(encoding="utf-8"))
    except OSError:
        raise OptionError(f"{folder} is there and holds no run. Name another folder.") from None
    except ValueError:  # cut by a crash: it is done again, and what is there is kept
        return None
    if not run.is_that(spec):
        why = "".join(f" ({line})" for line in changes(spec.digests, run.digests))
        raise OptionError(
            f"{folder} holds another run, {spec.id}{why}. Remove it, or name another."
        )
    if run.keep != "attention" and not (folder / NETWORK).is_file():
        return None  # it did not keep its network, which is wanted now
    try:
        return RunResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it lost its result, or never had one: it is done again
        return None


def _do(
    run: RunSpec,
    folder: Path | None,
    data: ImageData,
    watch: Watch,
    fabric: Any,
    tracking: Tracking | None,
) -> tuple[RunResult, nn.Module, NetworkRecipe, Predictions | None]:
    began = time.perf_counter()
    start = build(run, len(data.classes))
    model = start.model
    if fabric.is_global_zero:
        for line in _opening(run, data, start):
            watch.remark(line)
    with fed_by_data(data.shape):
        price = cost(model, data.shape)
    fitted = fit(
        model,
        data,
        run.train,
        folder=folder,
        identity=f"{run.identity} keep={run.keep}",
        watch=watch,
        name=title(run),
        fabric=fabric,
        leave_checkpoint=True,
        best=folder / BEST if folder is not None and run.keep == "best" else None,
        fresh_head=start.trained is None or start.trained.replaced,
        tracking=tracking,
    )
    # A run that was taken up again took as long as its parts.
    seconds = max(time.perf_counter() - began, fitted.seconds)
    result = result_of(run, data, start, price, fitted, seconds)
    if fabric.is_global_zero:
        watch.end(summary(run, result))
    network = replace(
        start.recipe, classes=tuple(data.classes), size=data.size, input=dict(data.prepared)
    )
    return result, model, network, fitted.predictions


def _opening(run: RunSpec, data: ImageData, start: Start) -> list[str]:
    """What there is to say before the training: the weights, and how pictures are prepared."""
    lines = [] if start.trained is None else str(start.trained).split("\n")
    if data.prepared:
        told = ", ".join(f"{name} {value}" for name, value in data.prepared.items())
        lines.append(f"pictures: {told}; where the data say nothing, {run.expected.origin}.")
    if uneven := uneven_classes(data):
        lines.append(uneven)
    return [f"{title(run)}: {line}" for line in lines]
