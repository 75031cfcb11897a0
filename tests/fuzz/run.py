"""`make fuzz COUNT=1000 SEED=0`: every fuzzer, and what came out into docs/data/robustness.json.

It goes on where it stopped, as long as the seed is the same. COUNT is cases a fuzzer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs" / "data" / "robustness.json"
FUZZERS = sorted(path.stem for path in HERE.glob("fuzz_*.py"))
STEP = 20  # cases after which the file is written
KEPT = 50  # of what did not come out, in the file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("names", nargs="*", help="of fuzzers; all without")
    given = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    torch.set_num_threads(1)
    report: dict[str, Any] = {"seed": given.seed, "fuzzers": {}}
    if given.out.exists():
        before = json.loads(given.out.read_text("utf-8"))
        if before["seed"] == given.seed:
            report = before
    report["torch"], report["python"] = torch.__version__, platform.python_version()
    build = commit()
    for name in given.names or FUZZERS:
        fuzz = importlib.import_module(name).fuzz
        row = report["fuzzers"].setdefault(name, {"cases": 0, "counts": {}, "found": []})
        while row["cases"] < given.count:
            until = min(given.count, row["cases"] + STEP)
            found: list[dict[str, Any]] = []
            counts = fuzz(given.seed, until, row["cases"], found.append)
            row["counts"] = {
                key: row["counts"].get(key, 0) + counts.get(key, 0)
                for key in sorted({*row["counts"], *counts})
            }
            builds = row.setdefault("builds", {})  # of which commit how many cases are
            builds[build] = builds.get(build, 0) + until - row["cases"]
            row["found"] = [*row["found"], *found][:KEPT]
            row["cases"] = until
            partial = given.out.with_name(f".{given.out.name}.partial")
            partial.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
            os.replace(partial, given.out)
        print(name, row["cases"], row["counts"], flush=True)
    bad = [entry for row in report["fuzzers"].values() for entry in row["found"]]
    sys.exit(bool(bad))


def commit() -> str:
    """The commit of this code, with a + where files differ from it."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
