"""The contract of policies finds what is wrong with a policy, in the row where one looks for it."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zoo import BACKBONES, PlainVGG, snapshot

import attnzoo
from attnzoo.errors import ContractError, OptionError, UnknownNameError
from attnzoo.registry import POLICIES
from attnzoo.testing import POLICY_CHECKS, Report, check_policy
from attnzoo.tracing import Site, Skipped, Trace

pytestmark = pytest.mark.usefixtures("registries")

SIZE = (3, 64, 64)
OPTIONS: dict[str, dict[str, Any]] = {"match": {"type": "ReLU"}}


def after_relu(trace: Trace, least: int = 1) -> list[Site]:
    """After every ReLU.

    Args:
        trace: of the network.
        least: channels that a map must have.
    """
    return [
        trace.after(call)
        for call in trace.calls
        if call.type == "ReLU" and trace.values[call.outputs[0]].channels >= least
    ]


def report_on(find: Callable[..., Any], *checks: str, models: Any = None) -> Report:
    attnzoo.register_policy("mine", overwrite=True)(find)
    return check_policy("mine", models, example=SIZE, checks=checks or None)


def failures(report: Report) -> dict[str, str]:
    return {row.check: row.detail for row in report.failed}


#: Their networks, which the default ones are not, are in `test_pyramids.py`, `test_in_block.py`.
ELSEWHERE = {"neck", "in-block"}


@pytest.mark.parametrize("policy", sorted({*attnzoo.list_policies()} - ELSEWHERE))
def test_every_policy_keeps_the_contract(policy: str) -> None:
    report = check_policy(policy, **OPTIONS.get(policy, {}))
    report.raise_if_failed()
    assert {row.check: row.outcome for row in report} == dict.fromkeys(POLICY_CHECKS, "passed")


def test_a_good_policy_passes_everything_on_a_model_of_ones_own() -> None:
    model = PlainVGG()
    before = snapshot(model)
    report = report_on(after_relu, models=model)
    assert {row.outcome for row in report} == {"passed"}, report
    assert report["places"].detail == "2 in PlainVGG (1)"
    assert snapshot(model) == before
    with_filter = check_policy("mine", {"vgg": model}, example=SIZE, min_channels=16, least=9)
    assert with_filter["places"].detail == "1 in vgg"
    assert with_filter


def test_on_meta_tensors_everything_but_numbers_is_checked() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    report = check_policy("in-residual", {"resnet18": model}, example=SIZE)
    assert {row.outcome for row in report} == {"passed"}, report
    assert report["outputs"].detail == "on meta tensors, so without numbers: resnet18"
    assert report["runs once"].detail == "8 blocks"


def elsewhere(trace: Trace) -> list[Site]:
    """After every ReLU, it says."""
    return [replace(site, path="elsewhere") for site in after_relu(trace)]


def wrong_channels(trace: Trace) -> list[Site]:
    """After every ReLU, with twice the channels."""
    return [replace(site, channels=2 * site.channels) for site in after_relu(trace)]


def wrong_map(trace: Trace) -> list[Site]:
    """After every ReLU, on what it is given."""
    return [replace(site, value=trace.calls[site.call].inputs[0]) for site in after_relu(trace)]


def paths(trace: Trace) -> list[str]:
    """Paths, not places."""
    return [site.path for site in after_relu(trace)]


def without_reason(trace: Trace) -> list[Any]:
    """After every ReLU but the first."""
    first, *others = after_relu(trace) or [None]
    return [Skipped(first.path, ""), *others] if first else []


def nowhere(trace: Trace) -> list[Site]:
    """Nowhere at all."""
    return []


def raises(trace: Trace) -> list[Site]:
    """After every ReLU, and raises where there is none."""
    found = after_relu(trace)
    return [found[0], *found[1:]]


def no_sentence(trace: Trace) -> list[Site]:
    """After ReLU"""
    return after_relu(trace)


def undocumented(trace: Trace, least: int = 1) -> list[Site]:
    """After every ReLU."""
    return after_relu(trace, least)


FAULTS: dict[Callable[..., Any], dict[str, str]] = {
    elsewhere: {"places": r"in plain: after elsewhere .* is not on a feature map of "},
    wrong_channels: {"places": r"says C, H, W, stage = \(16, 64, 64, 1\), and the trace \(8, "},
    wrong_map: {"places": "is not on what 1 returns"},
    paths: {"places": r"returns '1'; a policy returns sites made by trace.before"},
    without_reason: {"places": "leaves out 1 without a reason"},
    nowhere: {"places": "finds no place in plain, residual, dense, mbconv, unet"},
    raises: {"no places": "in a network without a feature map: IndexError"},
    no_sentence: {"documented": "begins with 'After ReLU', which is no sentence"},
    undocumented: {"documented": "no word on least under Args"},
}


@pytest.mark.parametrize("find", FAULTS, ids=lambda find: find.__name__)
def test_a_fault_is_in_its_row(find: Callable[..., Any]) -> None:
    report = report_on(find, "documented", "places", "no places", "options")
    assert set(failures(report)) >= set(FAULTS[find]), report
    assert "documented" not in failures(report) or "documented" in FAULTS[find]
    for check, says in FAULTS[find].items():
        assert re.search(says, failures(report)[check]), report
    with pytest.raises(ContractError, match="policy mine: "):
        report.raise_if_failed()


def test_a_policy_that_remembers_is_not_pure() -> None:
    turns = itertools.count()

    def every_other_time(trace: Trace) -> list[Site]:
        """After every ReLU, every other time."""
        return after_relu(trace)[: None if next(turns) % 2 else 1]

    report = report_on(every_other_time, "pure", models=PlainVGG())
    assert failures(report) == {"pure": "in PlainVGG (1): it finds other places the second time"}

    seen: list[Trace] = []

    def by_trace(trace: Trace) -> list[Site]:
        """After every ReLU of the first trace that it sees."""
        seen.append(trace)
        return after_relu(trace)[: None if trace is seen[0] else 1]

    report = report_on(by_trace, "pure", models=PlainVGG())
    assert "in another trace of the same network" in failures(report)["pure"]


def test_places_where_no_block_fits_are_none() -> None:
    def within_a_shared_module(trace: Trace) -> list[Site]:
        """After a ReLU that runs twice."""
        return after_relu(trace)[:1]

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.conv(self.relu(self.conv(x))))

    report = report_on(within_a_shared_module, models={"shared": Shared()})
    for check in ("plan", "outputs", "runs once", "gradients", "unwrap"):
        assert report[check].outcome == "not run", report
        assert "no network has a place" in report[check].detail


def test_a_place_beside_the_loss_gets_no_gradient() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.relu(self.conv(x)).detach())

    report = report_on(after_relu, models={"beside": Beside()})
    assert set(failures(report)) == {"gradients"}, report
    assert failures(report)["gradients"].startswith("in beside: ")


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no policy is called 'pre-pol'"):
        check_policy("pre-pol")
    with pytest.raises(OptionError, match=r"checks='place' is not one of .*'places'"):
        check_policy("pre-pool", checks=["place"])
    for wrong in ([], {}, 3, [nn.ReLU(), "resnet18"], {"a": SIZE}):
        with pytest.raises(OptionError, match=r"check_policy: models=.* must be a model, several"):
            check_policy("pre-pool", wrong)


def test_nothing_is_changed_by_it() -> None:
    model, state = BACKBONES["resnet18"](), torch.get_rng_state()
    before, kept = snapshot(model), copy.deepcopy(model.state_dict())
    assert check_policy("in-residual", model, example=SIZE)
    assert snapshot(model) == before
    assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert POLICIES["in-residual"].name == "in-residual"
