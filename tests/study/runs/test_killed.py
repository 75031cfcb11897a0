"""Studies that are killed, and studies with two drivers: every run once, to the same numbers."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from places import ROOT, SUPPORT
from studies import numbers


def tell(*arguments: object) -> Any:
    """What `studies_that_die.py` prints."""
    path = os.pathsep.join([str(SUPPORT), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "studies_that_die.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_study_killed_ten_times_ends_as_one_left_alone(tmp_path: Path) -> None:
    told = tell("killed", tmp_path, 10)
    assert len(told["lives"]) == 10
    assert told["last"] > 0  # there was something left to do after the last kill
    alone, killed = numbers(tmp_path / "alone"), numbers(tmp_path / "killed")
    assert len(killed) == 24  # and no hidden folder of a half-done run
    assert killed == alone
    with (tmp_path / "killed" / "results.csv").open(newline="") as file:
        assert sorted(row["run"] for row in csv.DictReader(file)) == sorted(killed)


def test_two_drivers_share_the_work(tmp_path: Path) -> None:
    first, second = tell("shared", tmp_path)
    assert first
    assert second
    assert len(first) + len(second) == len({*first, *second}) == 8
    assert len(numbers(tmp_path)) == 8
    with (tmp_path / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
