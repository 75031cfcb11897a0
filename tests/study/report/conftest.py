"""Finished studies, which the tests of reports only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies import MEASURED, measured_briefly

from attnzoo.study import run_study, write_comparison
from attnzoo.train import Watch

WITH_MAPS: dict[str, Any] = {
    **MEASURED,
    "variants": [
        {"policy": "pre-pool", "block": "cbam"},
        {"policy": "pre-pool", "block": "eca"},
    ],
    "controls": ["conv"],
}


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    with measured_briefly():
        yield


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study. Tests only read it."""
    folder = tmp_path_factory.mktemp("study")
    with measured_briefly():
        run_study(MEASURED, folder, watch=Watch())
    return folder


@pytest.fixture(scope="session")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose variants have spatial and channel maps, and controls. Tests only read it."""
    folder = tmp_path_factory.mktemp("mapped")
    with measured_briefly():
        run_study(WITH_MAPS, folder, watch=Watch())
    return folder


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory, done: Path, mapped: Path) -> Path:
    """A comparison of the two."""
    return write_comparison([done, mapped], tmp_path_factory.mktemp("compared")).parent
