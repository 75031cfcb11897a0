"""A few cases of every fuzzer; `make fuzz` runs many."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from harness import GOOD

pytestmark = pytest.mark.no_cover

COUNTS = {"fuzz_study_folders": 4, "fuzz_trees": 10}


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(__file__).parent.glob("fuzz_*.py")))
def test_nothing_is_raw_silent_hung_or_lost(name: str) -> None:
    found: list[dict] = []
    count = COUNTS.get(name, 25)
    counts = importlib.import_module(name).fuzz(0, count, tell=found.append)
    assert found == []
    assert sum(counts[outcome] for outcome in GOOD) == count
