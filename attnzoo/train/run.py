"""One run, from its description to its folder: build, wrap, train, measure, write."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from attnzoo.backbones import NetworkRecipe
from attnzoo.checkpoint import NETWORK, save
from attnzoo.checks import counted
from attnzoo.costs import cost
from attnzoo.errors import OptionError
from attnzoo.surgery import attention_modules, recipes
from attnzoo.train.aside import put_aside
from attnzoo.train.claim import claimed
from attnzoo.train.config import parse
from attnzoo.train.data import ImageData, uneven_classes
from attnzoo.train.devices import launch
from attnzoo.train.environment import environment, package_versions
from attnzoo.train.identity import changes, identified
from attnzoo.train.log import run_log
from attnzoo.train.loop import FitResult, fit, score
from attnzoo.train.opened import open_data, unchecked
from attnzoo.train.saved_maps import MAPS, save_maps
from attnzoo.train.spec import RunResult, RunSpec, policy_title
from attnzoo.train.start import Start, build, fed_by_data
from attnzoo.train.state import CHECKPOINT
from attnzoo.train.watch import Watch

__all__ = ["ENVIRONMENT", "RESULT", "SPEC", "train", "with_digests"]

SPEC, ATTENTION = "run.json", "attention.safetensors"
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
) -> RunResult:
    """Do one run.

    Args:
        run: what to do.
        folder: where to leave `run.json`, `environment.json`, `log.txt`, `metrics.csv`,
            `attention.safetensors`, `network.safetensors` (as `keep` says), `tensorboard/` and
            `result.json`. They appear together, when
            the run is over: a folder by that name is a finished run, and is not done again. Until
            then a hidden folder beside it, `.<name>.partial`, keeps what an interrupted run goes
            on from. None writes nothing.
        data: what `open_data(run.data)` returned, where it is at hand already.
        watch: is told about the progress.
        repository: a folder whose git commit `environment.json` is to tell.

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
        data = data or open_data(run.data, run.expected)
        return _do(run, None, data, watch, launch(run.train))[0]
    folder = Path(folder)
    run = run if run.digests else with_digests(run, data)
    if done := _finished(folder, run):
        return done
    with claimed(folder) if _is_first_process() else nullcontext():
        # Somebody may have finished it before the claim was had.
        return _finished(folder, run) or _do_into(folder, run, data, watch, repository)


def with_digests(run: RunSpec, data: ImageData | None = None) -> RunSpec:
    """The run, told apart by its pictures, its code and its weights, wherever they are.

    Args:
        run: what to do.
        data: what `open_data` returned for it, where it is at hand already.
    """
    return identified(run, data or open_data(unchecked(run.data), run.expected))


def _is_first_process() -> bool:
    """Whether this process is alone, or the first of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _do_into(
    folder: Path, run: RunSpec, data: ImageData | None, watch: Watch, repository: str | Path
) -> RunResult:
    partial = folder.with_name(f".{folder.name}.partial")
    if _is_first_process() and (result := _result_in(partial, run)):
        _publish(partial, folder)  # killed just before this
        return result
    data = data or open_data(run.data, run.expected)
    fabric = launch(run.train)
    first = fabric.is_global_zero
    if first:
        partial.mkdir(parents=True, exist_ok=True)
    fabric.barrier()
    with run_log(partial / LOG, watch) if first else nullcontext(watch) as watch:
        if first:
            _add_environment(partial / ENVIRONMENT, environment(repository))
        result, model, network = _do(run, partial, data, watch, fabric)
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
    run: RunSpec, folder: Path | None, data: ImageData, watch: Watch, fabric: Any
) -> tuple[RunResult, nn.Module, NetworkRecipe]:
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
        name=_title(run),
        fabric=fabric,
        leave_checkpoint=True,
        best=folder / BEST if folder is not None and run.keep == "best" else None,
        fresh_head=start.trained is None or start.trained.replaced,
    )
    # A run that was taken up again took as long as its parts.
    seconds = max(time.perf_counter() - began, fitted.seconds)
    result = _result(run, data, start, price, fitted, seconds)
    if fabric.is_global_zero:
        watch.end(_summary(run, result))
    network = replace(
        start.recipe, classes=tuple(data.classes), size=data.size, input=dict(data.prepared)
    )
    return result, model, network


def _opening(run: RunSpec, data: ImageData, start: Start) -> list[str]:
    """What there is to say before the training: the weights, and how pictures are prepared."""
    lines = [] if start.trained is None else str(start.trained).split("\n")
    if data.prepared:
        told = ", ".join(f"{name} {value}" for name, value in data.prepared.items())
        lines.append(f"pictures: {told}; where the data say nothing, {run.expected.origin}.")
    if uneven := uneven_classes(data):
        lines.append(uneven)
    return [f"{_title(run)}: {line}" for line in lines]


def _result(
    run: RunSpec, data: ImageData, start: Start, price: Any, fitted: FitResult, seconds: float
) -> RunResult:
    model, trained = start.model, start.trained
    last = fitted.epochs[-1] if fitted.epochs and fitted.status == "finished" else {}
    plain = run.variant.policy is None
    return RunResult(
        backbone=run.backbone,
        variant=run.variant.title,
        policy="" if plain else policy_title(run.variant.policy),
        block="" if plain else run.variant.block,
        start="" if plain else run.variant.start,
        seed=run.train.seed,
        status=fitted.status,
        message=fitted.message,
        top1=last.get("test_top1"),
        top5=last.get("test_top5"),
        balanced=last.get("test_balanced"),
        test_loss=last.get("test_loss"),
        sites=len(attention_modules(model)),
        places=" + ".join(str(call) for recipe in recipes(model) for call in recipe.policies),
        parameters=price.parameters,
        macs=price.macs,
        activation_bytes=price.activation_bytes,
        gamma=last.get("gamma"),
        epochs=sum(row["epoch"] > 0 for row in fitted.epochs),
        seconds=seconds,
        train_seconds=fitted.train_seconds,
        images_per_second=fitted.images_per_second,
        backbone_hash=start.fingerprint,
        weights="" if trained is None else trained.source,
        weights_digest="" if trained is None else trained.digest,
        weights_note="" if trained is None else str(trained),
        kept=_kept(run, fitted),
        first_loss=fitted.first_loss,
        input=dict(data.prepared),
        device=_device(model),
        versions={"python": platform.python_version(), **package_versions()},
    )


def _kept(run: RunSpec, fitted: FitResult) -> str:
    if run.keep == "attention":
        return "the attention alone"
    if run.keep == "all" or not fitted.epochs:
        return f"{NETWORK}: the network at the end"
    best = max(fitted.epochs, key=score)
    images = "validation" if best.get("val_top1") is not None else "test"
    flatters = ", whose top-1 there flatters it" if images == "test" else ""
    return (
        f"{NETWORK}: the network after epoch {best['epoch']}, the best of {len(fitted.epochs)} on "
        f"the {images} images{flatters}"
    )


def _summary(run: RunSpec, result: RunResult) -> str:
    if result.status == "diverged":
        return f"{_title(run)}: stopped, {result.message}"
    return (
        f"{_title(run)}: top-1 {100 * (result.top1 or 0):.1f}%, {counted(result.sites, 'site')}, "
        f"{_count_text(result.parameters)} parameters, {result.seconds:.0f} s"
    )


def _count_text(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def _title(run: RunSpec) -> str:
    return f"{run.backbone}, {run.variant.title}, seed {run.train.seed}"


def _device(model: nn.Module) -> str:
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{device.type}, {count} thread{'s' * (count > 1)}"
