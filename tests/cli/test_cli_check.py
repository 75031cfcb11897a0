"""`--check`: the contract's rows on standard output, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.checks import check_int
from attnzoo.cli import main
from attnzoo.testing import BLOCK_CHECKS, POLICY_CHECKS
from attnzoo.testing.block import check

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("registries")]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line, without the checks that take seconds: `(exit code, stdout, stderr)`."""
    slow = ("compile", "export", "onnx")
    quick = {name: item for name, item in BLOCK_CHECKS.items() if name not in slow}
    monkeypatch.setattr(check, "BLOCK_CHECKS", quick)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return run


class Cropping(nn.Module):
    """Leaves rows of the map out.

    Args:
        channels: C.
        rows: so many.
    """

    def __init__(self, channels: int, rows: int = 1) -> None:
        super().__init__()
        self.rows = check_int("Cropping", "rows", rows, minimum=0)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.rows :] * self.scale.to(x.dtype)


def test_a_block_that_passes(run: Run) -> None:
    code, out, err = run("blocks", "none", "--check")
    assert (code, err) == (0, "")
    assert out.startswith("block 'none': 20 passed")
    rows = [line.split() for line in out.splitlines()]
    assert ["shapes", "passed"] in rows
    assert ["state", "dict", "passed"] in rows


def test_a_block_that_fails_says_where_and_exits_with_1(run: Run) -> None:
    attnzoo.register_block("crop", limits={"maps": "It has none."})(Cropping)
    code, out, err = run("blocks", "crop", "--check")
    assert code == 1
    assert "turns a map of (1, 1, 1, 1) into (1, 1, 0, 1)" in out
    assert err.startswith("error: block 'crop': ")
    assert " failed" in err
    code, out, err = run("blocks", "crop", "--check", "--json")
    (report,) = json.loads(out)
    assert (code, report["ok"], report["subject"]) == (1, False, "block 'crop'")
    shapes = next(row for row in report["rows"] if row["check"] == "shapes")
    assert (shapes["outcome"], shapes["seconds"] > 0) == ("failed", True)
    code, out, err = run("blocks", "crop", "--check", "--option", "rows=0")
    assert "block 'crop', rows=0: " in out
    assert "turns a map" not in out


def test_a_policy(run: Run) -> None:
    code, out, err = run("policies", "transition", "--check")
    assert (code, err) == (0, "")
    assert out.startswith(f"policy transition: {len(POLICY_CHECKS)} passed")
    assert "2 in dense" in out
    code, out, err = run(
        "policies", "match", "--check", "--policy-option", "type=Conv2d", "--policy-option",
        "every=4", "--backbone", "timm/test_resnet", "--json",
    )  # fmt: skip
    (report,) = json.loads(out)
    assert (code, report["ok"]) == (0, True)
    assert report["subject"] == "policy match(type='Conv2d', every=4)"
    places = next(row for row in report["rows"] if row["check"] == "places")
    assert places["detail"].endswith(" in timm/test_resnet")
    assert run("policies", "match", "--check")[0] == 1  # it needs pattern= or type=


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("blocks", "se", "--option", "reduction=4"), "--option goes with --check"),
        (("policies", "auto", "--backbone", "timm/resnet18"), "--backbone go with --check"),
        (("blocks", "se", "--check", "--option", "reduction"), "write NAME=VALUE"),
    ],
)
def test_flags_out_of_place_are_refused(run: Run, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err
