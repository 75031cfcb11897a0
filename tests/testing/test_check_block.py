"""The contract of blocks finds what is wrong with a block, in the row where one looks for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from patches import onnx_registry_kept
from torch import Tensor, nn
from torch.nn import functional as F

import attnzoo
from attnzoo.errors import ContractError, OptionError, UnknownNameError
from attnzoo.registry import BLOCKS, Limit
from attnzoo.testing import BLOCK_CHECKS, Report, check_block

pytestmark = pytest.mark.usefixtures("registries")

#: Those that take seconds are asked of a block whose fault is in them.
QUICK = [name for name in BLOCK_CHECKS if name not in ("compile", "export", "onnx")]


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(x.mean((2, 3), keepdim=True)))


class Good(nn.Module):
    """Scales each channel by a gate that looks at its mean.

    Parameters: C² + C.
    MACs: C².

    Args:
        channels: C, at least 1.
        sharpness: s, how steep the gate is.
    """

    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__()
        if isinstance(sharpness, bool) or not isinstance(sharpness, int):
            raise OptionError(f"Good: sharpness={sharpness!r} must be an integer.")
        self.gate = Gate(channels)
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.sharpness * x).to(x.dtype)


class InPlace(Good):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.clamp_(max=0.5)
        return super().forward(x)


class Pooling(Good):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(super().forward(x), 2, ceil_mode=True)


class Tuple(Good):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), self.gate(x)


class NoSinglePixel(Good):
    """Fails at 1×1, as BatchNorm does on one image.

    Parameters: C² + C.
    MACs: C².

    Args:
        channels: C, at least 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:].numel() == 1:
            raise ValueError("Expected more than 1 value per channel")
        return super().forward(x)


class Dead(Good):
    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__(channels, sharpness)
        self.unused = nn.Parameter(torch.zeros(1))


class Cut(Good):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).detach()


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * gradient


class Crooked(Good):
    def forward(self, x: Tensor) -> Tensor:
        return WrongGradient.apply(super().forward(x))


class Dropping(Good):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, self.training)


class RandomOnCuda(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.adaptive_avg_pool2d(x, 2).mean((2, 3), keepdim=True)


class Float(Good):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).float()


class Contiguous(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous(memory_format=torch.contiguous_format)


class Overflowing(Good):
    def forward(self, x: Tensor) -> Tensor:
        total = x.to(
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        )
        return x * self.gate(x) + 0 * total.sum((2, 3), keepdim=True).to(x.dtype)


class Counting(Good):
    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__(channels, sharpness)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x)


class Mixing(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean(0, keepdim=True)


class TwoRuns(Good):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x) * self.gate(x)


class Unpicklable(Good):
    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__(channels, sharpness)
        self.scale = lambda x: x * sharpness

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.scale(x))


class Forgetful(Good):
    """Keeps a number that its state dict lacks.

    Parameters: C² + C.
    MACs: C².

    Args:
        channels: C, at least 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.offset = float(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.offset


class Undocumented(Good):
    """Scales each channel by a gate.

    Parameters: C² + C.
    MACs: C².

    Args:
        channels: C, at least 1.
    """


class Permissive(Good):
    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__(channels)


class OfAnotherKind(Good):
    def __init__(self, channels: int, sharpness: int = 1) -> None:
        super().__init__(channels, int(sharpness))
        if sharpness != int(sharpness):
            raise RuntimeError("no")


class MoreMacs(Good):
    """Counts too little.

    Parameters: C² + C.
    MACs: C.

    Args:
        channels: C, at least 1.
        sharpness: s, how steep the gate is.
    """


class Branching(Good):
    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 0:
            return super().forward(x)
        return 2 * super().forward(x)


def fixed_size(channels: int) -> nn.Module:
    """A gate for maps of 8×8 alone.

    Args:
        channels: C.
    """
    block = nn.Sequential(nn.Flatten(2), nn.Linear(64, 64), nn.Sigmoid(), nn.Unflatten(2, (8, 8)))
    return block


def report_on(
    factory: Callable[..., nn.Module],
    checks: list[str] | None = None,
    limits: dict[Limit, str] | None = None,
    options: dict[str, Any] | None = None,
    **declared: Any,
) -> Report:
    """The report on a block, registered with what is true of `Good`, unless declared otherwise."""
    declared = {"maps": {"gate": "channel"}, "kind": "channel", **declared}
    attnzoo.register_block("mine", limits=limits, **declared)(factory)
    return check_block("mine", checks=checks or QUICK, **(options or {}))


def failures(report: Report) -> dict[str, str]:
    return {row.check: row.detail for row in report.failed}


def test_a_good_block_passes_everything() -> None:
    with onnx_registry_kept():
        report = report_on(Good, list(BLOCK_CHECKS))
    assert report
    assert [row.check for row in report] == list(BLOCK_CHECKS)
    outcomes = {row.check: row.outcome for row in report}
    assert outcomes.pop("neutral start") == "not run"  # it declares none
    assert set(outcomes.values()) == {"passed"}, report
    report.raise_if_failed()
    assert report_on(Good, overwrite=True, options={"sharpness": 2}).subject == (
        "block 'mine', sharpness=2"
    )


#: block → the row that tells what is wrong, and how; then the rows that fail for the same reason.
FAULTS: dict[Callable[..., nn.Module], tuple[dict[str, str], str]] = {
    InPlace: ({"input kept": "changes a map of .* in place", "shapes": "in place"},
              "gradcheck, network"),
    Pooling: ({"shapes": r"turns a map of \(1, 1, 1, 7\) into \(1, 1, 1, 4\)"},
              "gradients, network"),
    Tuple: ({"shapes": "returns a tuple, not a tensor"},
            "autocast, deepcopy, determinism, dtypes, eval mode, formulas, gradients, "
            "identity at init, maps, network, pickle, state dict"),
    NoSinglePixel: ({"shapes": "refuses 24 of 120 maps: .*Expected more than 1 value"},
                    "input kept"),
    Dead: ({"gradients": "unused gets no gradient", "formulas": "Parameters: .* counted"},
           "network"),
    Cut: ({"gradients": "gate.conv.weight gets no gradient"}, "gradcheck, network"),
    Crooked: ({"gradcheck": "Jacobian mismatch"}, ""),
    Dropping: ({"determinism": "the map is another in a second run"}, "dtypes, gradcheck"),
    RandomOnCuda: ({"determinism on CUDA": "_adaptive_avg_pool2d"}, ""),
    Float: ({"dtypes": "turns torch.bfloat16 into torch.float32"}, "autocast, gradcheck"),
    Contiguous: ({"dtypes": "does not keep torch.channels_last"}, ""),
    Overflowing: ({"autocast": "not finite of a map of torch.float32 under autocast to "
                               "torch.float16"}, ""),
    Counting: ({"eval mode": "buffer passes changes in eval mode"}, ""),
    Mixing: ({"eval mode": "depends on the others in its batch"}, ""),
    TwoRuns: ({"maps": "gate ran 2 times", "formulas": "MACs: .* counted"}, ""),
    Unpicklable: ({"pickle": "lambda"}, ""),
    Forgetful: ({"state dict": "computes something else"}, "formulas, network"),
    Undocumented: ({"options": "no word on sharpness under Args"}, ""),
    Permissive: ({"options": "takes sharpness='no such value'"}, ""),
    OfAnotherKind: ({"options": "raises ValueError, not OptionError"}, ""),
    MoreMacs: ({"formulas": "MACs: C is 64 at C=64, 14×10, and 4096 are counted"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("factory", FAULTS, ids=lambda factory: factory.__name__)
def test_a_fault_is_in_its_row(factory: Callable[..., nn.Module]) -> None:
    report = report_on(factory)
    expected, others = FAULTS[factory]
    assert not report
    for check, says in expected.items():
        assert re.search(says, failures(report)[check]), report
    assert set(failures(report)) == set(expected) | set(filter(None, others.split(", "))), report
    with pytest.raises(ContractError, match=f"block 'mine': .*{len(report.failed)} failed"):
        report.raise_if_failed()


def test_a_graph_break_is_in_the_rows_of_programs() -> None:
    report = report_on(Branching, ["compile", "export", "onnx", "maps"])
    assert set(failures(report)) == {"compile", "export", "onnx"}
    assert "graph break" in failures(report)["compile"].lower() or failures(report)["compile"]


@pytest.mark.parametrize(
    ("declared", "check", "says"),
    [
        ({"maps": {"gate": "spatial"}}, "maps", r"gate returns \(2, 8, 1, 1\); .* \(2, 1, 5, 7\)"),
        ({"maps": {"gate": "pairwise"}}, "maps", "neither the rows nor the columns"),
        ({"maps": {"gates": "channel"}}, "maps", "'gates', which the block does not have"),
        ({"maps": {}}, "maps", "no submodule is declared"),
        ({"kind": "control"}, "maps", "a control attends to nothing"),
        ({"identity_at_init": True}, "identity at init", "does not return its input in training"),
    ],
)
def test_a_wrong_declaration_is_in_its_row(declared: dict[str, Any], check: str, says: str) -> None:
    report = report_on(Good, **declared)
    # What is the identity as it is built has a neutral start.
    assert set(failures(report)) - {"network", "neutral start"} == {check}, report
    assert re.search(says, failures(report)[check]), report


# --------------------------------------------------------------------------------------- limits


LIMITED: dict[Limit, Callable[..., nn.Module]] = {
    "shapes": NoSinglePixel,
    "determinism": Dropping,
}


@pytest.mark.parametrize("limit", LIMITED)
def test_a_limit_exempts_what_it_names(limit: Limit) -> None:
    report = report_on(LIMITED[limit], limits={limit: "So it is."})
    assert report, report
    assert report[limit].outcome == "exempt"
    assert report[limit].detail.startswith("So it is. Seen: ")
    assert report[f"limit: {limit}"].outcome == "passed"
    assert {row.check for row in report if row.outcome == "exempt"} == {limit}


def test_a_limit_exempts_nothing_else() -> None:
    report = report_on(NoSinglePixel, limits={"determinism": "It draws numbers."})
    assert {"shapes", "limit: determinism"} <= set(failures(report))
    wrong = report_on(Pooling, limits={"shapes": "Small maps shrink."}, overwrite=True)
    assert "turns a map" in failures(wrong)["shapes"]  # a map refused is a limit, a wrong one not
    assert report_on(fixed_size, ["shapes", "gradients"], {"shapes": "Of 8×8."}, overwrite=True)


@pytest.mark.parametrize("limit", ["shapes", "determinism", "compile", "maps", "options"])
def test_a_limit_that_does_not_hold_is_reported(limit: Limit) -> None:
    showing = {"determinism": ["determinism", "determinism on CUDA"], "options": ["by name"]}
    report = report_on(Good, showing.get(limit, [limit]), {limit: "It was so once."})
    assert set(failures(report)) == {f"limit: {limit}"}
    assert "the limit no longer holds" in failures(report)[f"limit: {limit}"]


def test_a_limit_of_some_options_is_shown_with_them() -> None:
    report = check_block("ge", checks=["export"])
    assert [(row.check, row.outcome) for row in report] == [
        ("export", "passed"), ("limit: export", "passed"),
    ]  # fmt: skip
    assert report["limit: export"].detail == "it holds with extent=4"
    assert check_block("ge", checks=["export"], extent=4)["export"].outcome == "exempt"

    class Never(Good):
        __doc__ = Good.__doc__

    declared = {"limited_with": {"shapes": {"sharpness": 2}}}
    report = report_on(Never, ["shapes"], {"shapes": "Not when sharp."}, **declared)
    assert report["shapes"].outcome == "passed"
    assert "passed with sharpness=2: the limit" in failures(report)["limit: shapes"]
    with pytest.raises(OptionError, match="limited_with='onnx' is not one of 'shapes'"):
        attnzoo.register_block("x", limits={"shapes": "So."}, limited_with={"onnx": {}})


# ------------------------------------------------------------------------------- what is asked


def test_a_block_that_cannot_be_built_is_one_row_that_failed() -> None:
    report = report_on(Good, ["builds", "shapes", "pickle"], options={"sharpness": "steep"})
    assert set(failures(report)) == {"builds"}
    assert "sharpness='steep' must be an integer" in failures(report)["builds"]
    assert [row.outcome for row in report] == ["failed", "not run", "not run"]

    class Needy(Good):
        def __init__(self, channels: int, sharpness: int) -> None:
            super().__init__(channels, sharpness)

    report = report_on(Needy, ["by name", "formulas"], options={"sharpness": 3}, overwrite=True)
    assert report
    assert report["by name"].detail == "must be given: sharpness"


def test_a_class_or_function_is_checked_without_a_name() -> None:
    report = check_block(Good, checks=["shapes", "maps", "network", "formulas"], sharpness=2)
    assert report.subject == "block 'Good', sharpness=2"
    assert {row.check: row.outcome for row in report} == {
        "shapes": "passed", "maps": "not run", "network": "not run", "formulas": "passed",
    }  # fmt: skip
    named = check_block(BLOCKS["se"].factory, checks=["maps"])
    assert (named.subject, named["maps"].outcome) == ("block 'se'", "passed")


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no block is called 'cbma'. Did you mean 'cbam'"):
        check_block("cbma")
    with pytest.raises(OptionError, match=r"checks='shape' is not one of .* Did you mean 'shapes'"):
        check_block("se", checks=["shape"])
    with pytest.raises(OptionError, match=r"names none\. There are: builds, "):
        check_block("se", checks=[])
    for wrong in (nn.ReLU(), 3, None):
        with pytest.raises(OptionError, match="must be a registered name, or a class"):
            check_block(wrong)


def test_nothing_is_changed_by_it() -> None:
    names, state = attnzoo.list_blocks(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    first = check_block("simam", checks=QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    again = check_block("simam", checks=QUICK)
    assert [(row.check, row.outcome, row.detail) for row in first] == [
        (row.check, row.outcome, row.detail) for row in again
    ]
    assert attnzoo.list_blocks() == names
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_onnx_is_not_run_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = "attnzoo.testing.block.programs"
    monkeypatch.setattr(f"{programs}.find_spec", lambda name: None if name == "onnx" else True)
    report = check_block("none", checks=["onnx"])
    assert report
    assert (report["onnx"].outcome, report["onnx"].detail) == ("not run", "not installed: onnx")
