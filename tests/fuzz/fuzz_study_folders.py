"""Study folders whose files are damaged, missing or folders: reported, and gone on with."""

from __future__ import annotations

import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from harness import changed, damaged, fuzzer

from attnzoo.cli import main
from attnzoo.cli.app import UNEXPECTED

BEFORE = Path(__file__).parents[1] / "data" / "before"
#: The plain ones of its runs: its block is another one by now, whose runs would be done anew.
PLAIN = "variants: [plain]\nmeasure: false\n"


def hurt(draw: random.Random, path: Path) -> None:
    act = draw.randrange(8)
    if act == 0:
        path.unlink()
    elif act == 1:
        path.unlink()
        path.mkdir()
    elif act < 4 and path.suffix == ".json":
        path.write_text(json.dumps(changed(draw, json.loads(path.read_text())), default=repr))
    else:
        path.write_bytes(damaged(draw, path.read_bytes()))


def case(draw: random.Random, place: Path) -> str:
    folder = shutil.copytree(BEFORE / "study", place / "study")
    study = place / "study.yaml"
    lines = (BEFORE / "study.yaml").read_text().splitlines(keepends=True)
    study.write_text("".join(line for line in lines if "variants" not in line) + PLAIN)
    (folder / "notes.txt").write_text("mine")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = draw.sample(files[:-1], draw.randrange(1, 4))
    for path in chosen:
        if path.name != "notes.txt":
            hurt(draw, path)
    kept = {
        path: path.read_bytes()
        for path in files
        if path.parent.parent.name == "runs" and path.is_file()
    }
    commands = (["report", str(folder)], ["ablate", str(study), "--out", str(folder)])
    outcomes = set()
    for command in (*commands[: draw.randrange(1, 3)], commands[0]):
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = main(command)
        if UNEXPECTED in said.getvalue() or "Traceback" in said.getvalue():
            raise RuntimeError(said.getvalue())
        if code and "error:" not in said.getvalue():
            return "silent"
        outcomes.add("refused" if code else "right")
    if (folder / "notes.txt").read_text() != "mine":
        return "lost"
    contents = {path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if any(content not in contents for content in kept.values()):
        return "lost"
    return "refused" if "refused" in outcomes else "right"


fuzz = fuzzer(case)
