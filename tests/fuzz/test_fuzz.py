"""A few cases of every fuzzer; `make fuzz` runs many."""

from __future__ import annotations

import importlib
import signal
from pathlib import Path

import pytest
from harness import GOOD

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers"),
]

COUNTS = {"fuzz_study_folders": 3, "fuzz_interrupts": 60, "fuzz_command_lines": 15}


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(__file__).parent.glob("fuzz_*.py")))
def test_nothing_is_raw_silent_hung_or_lost(name: str) -> None:
    found: list[dict] = []
    count = COUNTS.get(name, 25)
    counts = importlib.import_module(name).fuzz(0, count, tell=found.append)
    assert found == []
    assert sum(counts[outcome] for outcome in GOOD) == count
