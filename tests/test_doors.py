"""What loads when: importing attnzoo loads nothing, help loads no torch, every name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import attnzoo

HEAVY = ("torch", "timm", "torchvision", "numpy", "lightning_fabric", "matplotlib", "scipy", "ray")
COMMANDS = ("blocks", "policies", "plan", "cost", "train", "ablate", "report", "sweep")


def loaded(code: str, watched: tuple[str, ...] = HEAVY) -> list[str]:
    """Those of `watched` that a fresh process has imported after `code`."""
    code += f"\nimport sys\nprint([name for name in {watched} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return eval(done.stdout.splitlines()[-1])


def test_importing_attnzoo_loads_nothing():
    assert loaded("import attnzoo; dir(attnzoo); attnzoo.__version__") == []


def test_help_and_wrong_arguments_need_no_torch():
    helps = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    wrong = [["plam"], ["plan"], ["plan", "a", "b", "c"], ["train", "net", "--epochs", "x"]]
    code = f"""
from attnzoo.cli import main
assert [main(words) for words in {helps}] == [0] * {len(helps)}
assert [main(words) for words in {wrong}] == [2] * {len(wrong)}
"""
    assert loaded(code) == []


def test_completion_needs_no_torch():
    code = (
        "from attnzoo.cli.app import app; assert 'ablate' in app.generate_completion(shell='bash')"
    )
    assert loaded(code) == []


@pytest.mark.parametrize("block", ["se", "local", "eca", "cbam"])
def test_attention_for_an_own_network_loads_torch_alone(block: str):
    code = f"""
import attnzoo
from torch import nn
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
attnzoo.unwrap(attnzoo.wrap(net, "pre-pool", "{block}", example=(3, 16, 16)))
"""
    assert loaded(code, (*HEAVY, "triton", "torch._dynamo", "cyclopts", "pydantic", "yaml")) in (
        ["torch"],
        ["torch", "numpy"],
    )


@pytest.mark.parametrize(
    "name",
    [
        *("blocks.SqueezeExcitation", "reference.vgg16_with_attention", "registry.BlockSpec"),
        *("train.TrainRecipe", "study.parse_study", "errors.SiteError", "testing", "Plan", "fuse"),
    ],
)
def test_every_name_is_there_after_a_bare_import(name: str):
    code = f"import attnzoo; attnzoo.{name}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert name.partition(".")[0] in dir(attnzoo)


def test_own_blocks_may_come_before_anything_else():
    """Registering one loads the others first, so that a name that is taken is refused."""
    code = """
import attnzoo
from attnzoo.errors import OptionError
try:
    attnzoo.register_block("se")(lambda channels: None)
except OptionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'se' is registered already" in done.stdout
