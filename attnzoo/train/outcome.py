"""What a run came to, from a training that is over: its result, and a line on it."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import nn

from attnzoo.checkpoint import NETWORK
from attnzoo.checks import counted
from attnzoo.surgery import attention_modules, recipes
from attnzoo.train.data import ImageData
from attnzoo.train.environment import package_versions
from attnzoo.train.loop import FitResult, score
from attnzoo.train.measures import calibration_error, macro_f1
from attnzoo.train.spec import RunResult, RunSpec, policy_title
from attnzoo.train.start import Start

__all__ = ["result_of", "summary", "title"]


def result_of(
    run: RunSpec, data: ImageData, start: Start, price: Any, fitted: FitResult, seconds: float
) -> RunResult:
    """The result of a run.

    Args:
        run: what it was.
        data: what it was trained and tested on.
        start: the network.
        price: its cost.
        fitted: how the training went.
        seconds: that all of it took.
    """
    model, trained = start.model, start.trained
    last = fitted.epochs[-1] if fitted.epochs and fitted.status == "finished" else {}
    plain = run.variant.policy is None
    said = fitted.predictions
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
        macro_f1=None if said is None else float(macro_f1(said)),
        calibration_error=None if said is None else calibration_error(said),
        map=last.get("test_map"),
        f1=last.get("test_f1"),
        mae=last.get("test_mae"),
        r2=last.get("test_r2"),
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
    images = "validation" if "val_loss" in best else "test"
    flatters = ", whose top-1 there flatters it" if images == "test" else ""
    return (
        f"{NETWORK}: the network after epoch {best['epoch']}, the best of {len(fitted.epochs)} on "
        f"the {images} images{flatters}"
    )


def summary(run: RunSpec, result: RunResult) -> str:
    """How it went, in a line."""
    if result.status == "diverged":
        return f"{title(run)}: stopped, {result.message}"
    told = f"top-1 {100 * (result.top1 or 0):.1f}%"
    if result.map is not None:
        told = f"mAP {100 * result.map:.1f}%"
    if result.mae is not None:
        told = f"mean absolute error {result.mae:.4g}"
    return (
        f"{title(run)}: {told}, {counted(result.sites, 'site')}, "
        f"{_count_text(result.parameters)} parameters, {result.seconds:.0f} s"
    )


def _count_text(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def title(run: RunSpec) -> str:
    """What a run is called in a line."""
    return f"{run.backbone}, {run.variant.title}, seed {run.train.seed}"


def _device(model: nn.Module) -> str:
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{device.type}, {count} thread{'s' * (count > 1)}"
