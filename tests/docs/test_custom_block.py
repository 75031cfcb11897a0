"""The example package: installed by pip, found by its entry points, used like any block."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

import attnzoo

EXAMPLE = ROOT / "examples" / "custom_block"

USE = """
import attnzoo, torch, torchvision
from attnzoo.registry import BLOCKS
assert "attnzoo_peak" not in __import__("sys").modules
assert "peak" in attnzoo.list_blocks() and "after-stride" in attnzoo.list_policies()
assert dict(BLOCKS["peak"].maps) == {"gate": "channel"}
x = torch.randn(2, 3, 64, 64)
model = torchvision.models.resnet18(num_classes=5).eval()
before = model(x)
attnzoo.wrap(model, policy="after-stride", block="peak", example=(3, 64, 64), sharpness=2.0)
assert torch.equal(model(x), before)
print(len(attnzoo.attention_modules(model)), attnzoo.recipes(model)[0])
attnzoo.save(model, "peak.safetensors")
again = attnzoo.load("peak.safetensors", torchvision.models.resnet18(num_classes=5))
print({type(block).__name__ for block in attnzoo.attention_modules(again).values()})
"""

ASK = """
from attnzoo.cli import main
assert main(["blocks", "peak", "--json"]) == 0
print("---")
names = ["--policy", "after-stride", "--block", "peak"]
assert main(["plan", "torchvision/resnet18", *names]) == 0
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, since a build leaves folders behind."""
    return shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "custom_block")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Callable[..., str]:
    """Run Python where the example is installed: what it prints."""
    # No network: the backend is there already.
    target, elsewhere = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", target, source]
    done = subprocess.run([*pip, *offline], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    paths = [str(target), str(Path(attnzoo.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "is left out" not in done.stderr
        return done.stdout

    return run


def test_the_example_is_wrapped_saved_and_loaded(python: Callable[..., str]) -> None:
    lines = python("-c", USE).splitlines()
    assert lines == [
        "7 after-stride × peak, sharpness=2.0 (start=identity)",
        "{'PeakAttention'}",
    ]


def test_the_command_line_knows_the_example(python: Callable[..., str]) -> None:
    blocks, planned = python("-c", ASK).split("---")
    (shown,) = json.loads(blocks)
    assert (shown["name"], shown["kind"], shown["options"]) == ("peak", "channel", {"sharpness": 1})
    assert "after-stride × peak" in planned
    assert "layer4.0.downsample.0" in planned
    assert "7 sites" in planned


def test_the_examples_own_test_passes(python: Callable[..., str], source: Path) -> None:
    printed = python("-m", "pytest", "-rP", "-p", "no:cacheprovider", str(source))
    assert "2 passed" in printed
    assert "block 'peak', sharpness=2.0: 22 passed" in printed
    assert "policy after-stride: 11 passed" in printed
