"""Command lines that a tired person, or a script with an empty variable, would type."""

from __future__ import annotations

import functools
import io
import random
import shutil
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from harness import fuzzer
from PIL import Image

from attnzoo.cli import main
from attnzoo.cli.app import UNEXPECTED

STUDY = Path(__file__).parents[1] / "data" / "before" / "study"
NETWORK = ("timm/test_resnet", "--block", "se", "--policy", "post-residual")
TRAIN = ("train", *NETWORK, "--data", "data", "--size", "32", "--epochs", "0", "--batch-size", "4")

#: Lines that do what they say, each of a quarter of a second at most.
LINES = (
    ("blocks", "c*"),
    ("blocks", "cbam"),
    ("policies", "in-residual"),
    ("plan", *NETWORK, "--option", "reduction=8", "--input-size", "3x32x32", "--json"),
    ("plan", *NETWORK, "--policy-option", "stages=2,3", "--start", "paper", "--svg", "plan.svg"),
    ("plan", "nets:small", "--backbone-option", "width=8", "--input-size", "3x32x32"),
    ("cost", *NETWORK, "--input-size", "32", "--json"),
    ("cost", "nets:small", "--input-size", "3", "32", "32", "--block", "eca"),
    TRAIN,
    ("ablate", "study.yaml", "--dry-run", "--out", "out"),
    ("report", "study", "--latex", "t.tex", "--csv", "t.csv"),
    ("report", "study", "--json", "t.json"),
    ("report", "study", "again", "--out", "both"),
    ("evaluate", "run", "--json", "--batch-size", "16"),
    ("predict", "run", "pictures", "--out", "p.csv"),
    ("maps", "run", "pictures/a.png", "--out", "maps"),
    ("export", "run", "--format", "torchscript", "--out", "net.pt"),
)
VALUES = (
    *("", " ", "-1", "0", "1", "2", "1.5", "9" * 30, "nan", "None", "[", "[[[[", "a=b", "=", "a="),
    *("se", "cbam", "auto", "pre-pool", "match", "identity", "neutral", "3x32x32", "32", "3 32"),
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
    *("study.yaml", "none.yaml", ".", "/dev/null", "x" * 300, "a\0b", "\udc80", "*", "--", "-"),
    *("study", "run", "pictures", "nets.py", "nets:small", "nets:none", "nets:failing", "$x", "=b"),
    *("run/network.safetensors", "study/study.json", "study/runs", "pictures/a.png", "out/x/y"),
)
FLAGS = (
    *("--policy", "--policy-option", "--block", "--option", "--start", "--input-size", "--json"),
    *("--backbone-option", "--out", "--dry-run", "--engine", "--debu", "--epochs", "--csv"),
    *("--lr", "--size", "--data", "--data-option", "--config", "--seed", "--plain", "--help"),
    *("--keep", "--freeze", "--weights", "--latex", "--figures", "--format", "--batch-size"),
)
NETS = """
from torch import nn
def small(width=4):
    layers = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.LazyLinear(2)) if width > 9 else nn.Sequential(*layers)
def failing(**options):
    raise OSError("no such network")
none = 5
"""


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """A study, a run with its network, a function and pictures: what commands read."""
    place = tempfile.TemporaryDirectory()
    top = Path(place.name)
    for name in ("study", "again"):
        shutil.copytree(STUDY, top / name)
    shutil.copy(STUDY.with_name("study.yaml"), top / "study.yaml")
    (top / "nets.py").write_text(NETS)
    pixels = np.arange(32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
    for name in (
        "pictures",
        *(f"data/{part}/{kind}" for part in ("train", "test") for kind in "ab"),
    ):
        (top / name).mkdir(parents=True)
        for letter in "abcd"[: 1 if name == "pictures" else 4]:
            Image.fromarray(pixels).save(top / name / f"{letter}.png")
    assert answer(top, list(TRAIN))[0] == 0
    (run,) = (top / "runs").glob("test_resnet*/")
    run.rename(top / "run")
    shutil.rmtree(top / "runs")
    return place


def answer(place: Path, line: list[str]) -> tuple[int, str]:
    """The exit code of a command, and what it says on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(place), redirect_stdout(out), redirect_stderr(err):
        code = main(line)
    return code, err.getvalue()


def other(draw: random.Random, line: list[str]) -> list[str]:
    """A line in which something is another, missing, twice or too much."""
    act, at = draw.randrange(6), draw.randrange(len(line))
    if act == 0:
        return [*line[:at], *line[at + 1 :]]
    if act == 1:
        return [*line[:at], draw.choice(line), *line[at:]]
    if act == 2:
        return [*line, draw.choice(FLAGS), *draw.choices(VALUES, k=draw.randrange(2))]
    if act == 3:
        one = draw.randrange(len(line))
        line[at], line[one] = line[one], line[at]
        return line
    return [*line[:at], draw.choice(VALUES), *line[at + 1 :]]


def case(draw: random.Random, place: Path) -> str:
    line = list(draw.choice(LINES))
    for _ in range(draw.randrange(3)):
        line = other(draw, line) or ["blocks"]
    top = shutil.copytree(folder().name, place / "here")
    before = contents(top)
    code, said = answer(top, line)
    if UNEXPECTED in said or "Traceback" in said:
        raise RuntimeError(f"{line}: {said}")
    if code not in (0, 1, 2) or (code and "error" not in said):
        return "silent"
    after = contents(top)
    written = {name for name, content in before.items() if after.get(name) != content}
    # Reports are written anew, in a study's own folder; all else that was there stays.
    if any(not name.startswith(("study/", "again/")) or "/runs/" in name for name in written):
        return "lost"
    return "refused" if code else "right"


def contents(top: Path) -> dict[str, bytes]:
    files = (path for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


fuzz = fuzzer(case)
