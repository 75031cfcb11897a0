"""Where a run took place: versions, machine, threads, and the state of the code around it."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["environment", "git_state", "package_versions"]

PACKAGES = ("attnzoo", "torch", "torchvision", "timm", "lightning-fabric", "numpy")


def environment(repository: str | Path = ".") -> dict[str, Any]:
    """What a run's outcome can depend on beside its description; no names of machines or people.

    Args:
        repository: a folder whose git state is told: where the study file is.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "cpu": {
            "model": _cpu_model(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": git_state(repository),
    }


@functools.cache
def _cpu_model() -> str:
    """What tells CPUs of one capability apart: on two of them, sums are rounded otherwise."""
    told: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    numbers = (f"{key} {told[key]}" for key in ("cpu family", "model", "stepping") if key in told)
    return ", ".join([told.get("model name", platform.machine()), *numbers])


def package_versions() -> dict[str, str]:
    """Of the packages that computations depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[package] = "not installed"
    return found


def git_state(folder: str | Path) -> dict[str, Any] | None:
    """The commit of the repository that `folder` is in, and whether tracked files differ from it.

    None where there is no repository, no commit, or no git.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes.strip())}


def _git(folder: str | Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # another git may be at work there
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout
