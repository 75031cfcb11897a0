"""A trained network with attention, on a folder of pictures; trained once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trained import Run, trained_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with torch.random.fork_rng(devices=[]):
        return trained_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def pictures(run: Run) -> list[Path]:
    return sorted((run.data / "test").rglob("*.png"))
