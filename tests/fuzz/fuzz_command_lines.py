"""Command lines that a tired person, or a script with an empty variable, would type."""

from __future__ import annotations

import io
import random
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from harness import fuzzer

from attnzoo.cli import main
from attnzoo.cli.app import UNEXPECTED

COMMANDS = ("blocks", "policies", "plan", "cost", "train", "ablate", "report", "sweep", "x", "")
VALUES = (
    *("", " ", "-1", "0", "1.5", "9" * 30, "nan", "None", "[", "[[[[", "a=b", "=", "a=", "=b"),
    *("se", "cbam", "auto", "pre-pool", "match", "identity", "paper", "3x32x32", "32", "3 32"),
    *(
        "timm/test_resnet",
        "torchvision/none",
        "sys:exit",
        "os:getcwd",
        ":",
        "..x:y",
        "x:",
        "json:x",
    ),
    *("reduction=8", "reduction=[1", "pattern=5", "stages=3,4", "num_classes=-1", "width=x", "é"),
    *("s.yaml", "none.yaml", ".", "/dev/null", "x" * 300, "a\0b", "\udc80", "*", "--", "-", "$x"),
)
FLAGS = (
    *("--policy", "--policy-option", "--block", "--option", "--start", "--input-size", "--json"),
    *("--backbone-option", "--out", "--dry-run", "--workers", "--engine", "--debu", "--epochs"),
    *("--lr", "--size", "--data", "--data-option", "--config", "--seed", "--plain", "--help"),
)


def case(draw: random.Random, place: Path) -> str:
    command = draw.choice(COMMANDS)
    line = [command]
    if draw.random() < 0.8:
        line.append("timm/test_resnet" if draw.random() < 0.4 else draw.choice(VALUES))
    for _ in range(draw.randrange(4)):
        line.append(draw.choice(FLAGS))
        if draw.random() < 0.8:
            line.append(draw.choice(VALUES))
    if command in ("train", "sweep"):  # nothing that would go on for minutes
        line += ["--none-such"]
    (place / "s.yaml").write_text("name: s\nvariants: [plain]\n")
    out, err = io.StringIO(), io.StringIO()
    with chdir(place), redirect_stdout(out), redirect_stderr(err):
        code = main(line)
    said = err.getvalue()
    if UNEXPECTED in said or "Traceback" in said:
        raise RuntimeError(f"{line}: {said}")
    if code not in (0, 1, 2) or (code and "error" not in said):
        return "silent"
    return "refused" if code else "right"


fuzz = fuzzer(case)
