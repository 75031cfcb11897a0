"""The contract every block keeps, swept over the registry; then what is particular to each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import get_args

import pytest
import torch
from patches import onnx_registry_kept
from torch import nn

import attnzoo
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS, Tool
from attnzoo.testing.block.check import BLOCK_CHECKS, run_checks
from attnzoo.testing.block.subject import BlockSubject, randomised

pytestmark = pytest.mark.no_cover
# The library's own: blocks of other installed packages keep this contract at home.
NAMES = [n for n in attnzoo.list_blocks() if BLOCKS[n].factory.__module__.startswith("attnzoo.")]
every_block = pytest.mark.parametrize("name", NAMES)
BAD_VALUES = {
    "dilation": (0, -4, 2.0, True, None, "four"),
    "e_lambda": (0, -1e-4, True, None, "small", math.nan),
    "extent": (0, 1, -2, 3, 6, 2.0, True, None, "local"),
    "floor": (0, -8, 8.0, True, None, "eight"),
    "groups": (0, -8, 2.0, True, None, "many"),
    "heads": (0, -4, 2.0, True, None, "auto"),
    "kernel_size": (0, -3, 2, 3.0, True, None, "seven"),
    "like": (0, True, None, "conv", "lcoal"),
    "like_options": (0, True, "reduction", [("reduction", 4)]),
    "mode": (0, True, None, "Parallel", "both"),
    "recurrence": (0, -2, 2.0, True, None, "two"),
    "reduction": (0, -1, 1.5, True, None, "automatic"),
    "resolution": (0, -7, 7.0, True, None, "auto"),
    "span": (0, -1, 7.0, True, None, "all"),
    "variant": (0, True, None, "θ+", "Plus"),
}
# What a limit exempts with the default options.
EXEMPT = {("mhsa", "maps"), ("shuffle", "shapes")} | {
    (name, "neutral start") for name in NAMES if "neutral" in BLOCKS[name].limits
}


@cache
def subject(name: str) -> BlockSubject:
    """A block whose program, once exported, two checks look at."""
    return BlockSubject.of(name, {})


def drawn(name: str, channels: int, **options: object) -> nn.Module:
    """The block with random parameters."""
    return randomised(attnzoo.create_block(name, channels, **options))


def test_the_sweep_covers_the_blocks_of_the_package() -> None:
    expected = (
        "a2 affine axial bam cbam conv coord crisscross danet eca ela ema ese gam gc gct ge grn "
        "lct lka local local-dynamic local-self lsk mhsa nam none nonlocal polarized scse se sge "
        "shuffle simam spatial srm strip triplet"
    )
    assert " ".join(sorted(NAMES)) == expected
    assert not [name for name in attnzoo.list_blocks() if name.startswith("timm:")]


@every_block
@pytest.mark.parametrize("check", BLOCK_CHECKS)
def test_every_block_keeps_the_contract(name: str, check: str) -> None:
    with onnx_registry_kept() if check == "onnx" else nullcontext():
        report = run_checks(subject(name), [BLOCK_CHECKS[check]])
    report.raise_if_failed()
    exempt = (name, check) in EXEMPT
    assert report[check].outcome == ("exempt" if exempt else "passed"), report


@every_block
def test_options_refuse_in_our_words(name: str) -> None:
    with pytest.raises(OptionError, match=rf"'{name}'.*'reducton'.*Its options"):
        attnzoo.create_block(name, 8, reducton=4)
    for channels in (0, -1, 8.0, True, "8"):
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            attnzoo.create_block(name, channels)
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            BLOCKS[name].factory(channels)
    for option in BLOCKS[name].options:
        assert option in BAD_VALUES, f"say in BAD_VALUES what {option} must refuse"
        for value in BAD_VALUES[option]:
            given = re.escape(f"{option}={value!r}")
            with pytest.raises(OptionError, match=rf"{given} (must be|is not one of) "):
                attnzoo.create_block(name, 8, **{option: value})


def odd_channels_are_refused() -> None:
    for channels in (1, 3, 17):
        with pytest.raises(OptionError, match=f"channels={channels} must be even"):
            attnzoo.create_block("shuffle", channels)
    report = attnzoo.testing.check_block("shuffle", checks=["shapes"])
    assert "refuses 60 of 120 maps" in report["shapes"].detail  # those of odd channels


def no_submodule_returns_the_attention() -> None:
    block, returned = drawn("mhsa", 8), []
    for module in block.modules():
        module.register_forward_hook(lambda module, args, output: returned.append(output))
    block(torch.randn(2, 8, 5, 7))
    assert not [y for y in returned if y.shape[-2:] == (35, 35)]


def a_program_of_several_windows_refuses_one_window() -> None:
    block = drawn("ge", 8, extent=4).eval()
    example = torch.randn(2, 8, 12, 10)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    module = torch.export.export(block, (example,), dynamic_shapes=(free,)).module()
    larger = torch.randn(1, 8, 5, 9)
    torch.testing.assert_close(module(larger), block(larger))
    for size in ((4, 9), (1, 1)):
        assert block(torch.randn(1, 8, *size)).isfinite().all()
        with pytest.raises((AssertionError, RuntimeError)):
            module(torch.randn(1, 8, *size))


# Each limit, shown: one that no longer holds is noticed.
LIMITS: dict[tuple[str, str], Callable[[], None]] = {
    ("ge", "export"): a_program_of_several_windows_refuses_one_window,
    ("mhsa", "maps"): no_submodule_returns_the_attention,
    ("shuffle", "shapes"): odd_channels_are_refused,
}


def test_every_limit_is_shown_here() -> None:
    """But a neutral start that there is not, which is what the spec says by itself, and tools.

    Those are shown by `docs/data/toolchains.csv`; see `tests/docs/test_toolchains.py`.
    """
    elsewhere = {"neutral", *get_args(Tool)}
    assert {
        (name, what) for name in NAMES for what in BLOCKS[name].limits if what not in elsewhere
    } == set(LIMITS)


@pytest.mark.parametrize(("name", "what"), LIMITS)
def test_a_limit_is_as_the_spec_says(name: str, what: str) -> None:
    assert re.fullmatch(r"[^.].+\.", BLOCKS[name].limits[what], re.DOTALL)
    LIMITS[name, what]()
