"""What may be asked of policies: their forms, options and filters, and how refusals read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import PlainVGG, Residual

import attnzoo
from attnzoo.errors import NoSitesError, OptionError, SiteError, UnknownNameError
from attnzoo.policies.selection import FILTERS, PolicyCall, parse_policies, select
from attnzoo.registry import register_policy
from attnzoo.tracing.probe import probe
from attnzoo.tracing.sites import Skipped
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


@pytest.fixture(scope="module")
def vgg() -> Trace:
    with torch.device("meta"):
        return probe(torchvision.models.vgg16(), SIZE)


def _paths(trace: Trace, *policy: Any) -> list[str]:
    (call,) = parse_policies(tuple(policy) if len(policy) > 1 else policy[0])
    return [site.path for site in select(trace, call).sites]


POOLS = ["features.4", "features.9", "features.16", "features.23", "features.30"]


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("pre-pool", ["pre-pool"]),
        (PolicyCall("pre-pool"), ["pre-pool"]),
        (("pre-pool", {}), ["pre-pool"]),
        (["pre-pool", {"stages": 2}], ["pre-pool(stages=2)"]),
        (["pre-pool"], ["pre-pool"]),
        (("pre-pool", "stage-end"), ["pre-pool", "stage-end"]),
        ([("pre-pool", {"every": 2}), "auto"], ["pre-pool(every=2)", "auto"]),
        (["auto", ["pre-pool", ("auto", {"every": 3})]], ["auto", "pre-pool", "auto(every=3)"]),
    ],
)
def test_forms_of_a_policy(policy: Any, expected: list[str]) -> None:
    assert [str(call) for call in parse_policies(policy)] == expected


@pytest.mark.parametrize(
    "policy", [None, 3, [], (), {}, ["pre-pool", 3], ("pre-pool", {}, 3), [[]], {"pre-pool": {}}]
)
def test_other_forms_are_refused(policy: Any) -> None:
    with pytest.raises(OptionError, match="pass a name, a pair"):
        parse_policies(policy)


def test_options_are_copied() -> None:
    options = {"stages": [1]}
    (call,) = parse_policies(("pre-pool", options))
    options["stages"] = [2]
    assert call.options == {"stages": [1]}


@pytest.mark.parametrize(
    ("name", "near"),
    [("pre_pool", "pre-pool"), ("residual", "in-residual"), ("stagend", "stage-end")],
)
def test_a_misspelt_policy_lists_the_closest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean .*'{near}'"):
        parse_policies(name)
    with pytest.raises(KeyError, match="no policy is called 'xyzzy'"):
        parse_policies("xyzzy")


def test_unknown_options_name_the_closest_and_all() -> None:
    with pytest.raises(OptionError, match=r"no option 'stage'. Did you mean 'stages'") as caught:
        parse_policies(("pre-pool", {"stage": 3}))
    assert all(name in str(caught.value) for name in (*FILTERS, "trunk_only"))
    with pytest.raises(OptionError, match="no options 'a', 'b'"):
        parse_policies(["auto", ("stage-end", {"a": 1, "b": 2})])
    with pytest.raises(OptionError, match=r"no option 'redution'\. Did you mean 'reduction'"):
        attnzoo.plan(PlainVGG(), "pre-pool", "se", redution=4)
    with pytest.raises(UnknownNameError, match=r"Did you mean .*'cbam'"):
        attnzoo.plan(PlainVGG(), "pre-pool", "cbamm")
    with pytest.raises(OptionError, match=r"start='papr' is not one of .*Did you mean 'paper'"):
        attnzoo.plan(PlainVGG(), "pre-pool", start="papr")


@pytest.mark.parametrize(
    "options",
    [
        {"stages": 0}, {"stages": "2"}, {"stages": [1, "x"]}, {"stages": 1.0}, {"stages": True},
        {"every": 0}, {"every": 1.5}, {"every": True}, {"min_channels": -1}, {"min_channels": "8"},
        {"max_resolution": 0}, {"max_resolution": (8, 8)}, {"include": 3}, {"exclude": ["a", None]},
        {"occupied": "replace"}, {"occupied": None}, {"every": None}, {"stages": None},
    ],
)  # fmt: skip
def test_filters_of_a_wrong_type_or_range(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(OptionError, match=name):
        parse_policies(("pre-pool", options))


# --- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"stages": 3}, [2]),
        ({"stages": [1, 5]}, [0, 4]),
        ({"stages": range(2, 4)}, [1, 2]),
        ({"stages": {4}}, [3]),
        ({"include": "features.?"}, [0, 1]),
        ({"include": ["features.4", "*.30"]}, [0, 4]),
        ({"exclude": "features.?"}, [2, 3, 4]),
        ({"exclude": ("*.4", "*.9")}, [2, 3, 4]),
        ({"include": "*", "exclude": "*3*"}, [0, 1, 2]),
        ({"min_channels": 256}, [2, 3, 4]),
        ({"max_resolution": 16}, [2, 3, 4]),
        ({"every": 2}, [0, 2, 4]),
        ({"every": 9}, [0]),
        ({"every": 2, "min_channels": 128}, [1, 3]),
        ({"stages": [1, 2, 3], "exclude": "*.9", "max_resolution": 32}, [2]),
    ],
)
def test_filters(vgg: Trace, options: dict[str, Any], kept: list[int]) -> None:
    assert _paths(vgg, "pre-pool", options) == [POOLS[i] for i in kept]
    assert _paths(vgg, "auto", options) == [POOLS[i] for i in kept]


def test_every_policy_takes_every_filter(vgg: Trace) -> None:
    for name in attnzoo.list_policies():
        parse_policies((name, {"stages": 1, "include": "*", "exclude": "x", "min_channels": 1,
                               "max_resolution": 9, "every": 2, "occupied": "skip"}))  # fmt: skip


def test_every_counts_in_forward_order() -> None:
    class Mixed(nn.Module):
        """Functional and module pools in turn."""

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
            self.pool1, self.pool3 = nn.MaxPool2d(2), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.avg_pool2d(self.convs[0](x), 2)
            x = self.pool1(self.convs[1](x))
            x = F.avg_pool2d(self.convs[2](x), 2)
            return self.pool3(self.convs[3](x))

    trace = probe(Mixed(), SIZE)
    assert _paths(trace, "pre-pool") == ["convs.0", "pool1", "convs.2", "pool3"]
    assert _paths(trace, "pre-pool", {"every": 2}) == ["convs.0", "convs.2"]


# --- nothing found -------------------------------------------------------------------------------


def _why(model: nn.Module | Trace, *policy: Any) -> str:
    trace = model if isinstance(model, Trace) else probe(model, SIZE)
    (call,) = parse_policies(tuple(policy) if len(policy) > 1 else policy[0])
    with pytest.raises(NoSitesError) as caught:
        select(trace, call)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_filters_excluded_all(vgg: Trace) -> None:
    why = _why(vgg, "pre-pool", {"min_channels": 1000})
    assert "pre-pool(min_channels=1000) found no site in VGG" in why
    assert "filters excluded all 5 sites (min_channels=1000 dropped 5)" in why
    assert "64 to 512 channels at stages 1, 2, 3, 4, 5" in why
    why = _why(vgg, "auto", {"stages": [1, 2], "min_channels": 512})
    assert "auto(stages=[1, 2], min_channels=512) (→ pre-pool)" in why
    assert "stages=[1, 2] dropped 3" in why
    assert "min_channels=512 dropped 2" in why


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        (
            "pre-pool",
            {"exclude": "featurs.*"},
            r"exclude='featurs.\*': no module of VGG .*'features",
        ),
        ("pre-pool", {"exclude": ["features.4", "x.*"]}, r"no module of VGG matches 'x.\*'"),
        ("pre-pool", {"include": ["features.4", "y"]}, r"include=.* no module of VGG matches 'y'"),
        ("pre-pool", {"stages": [2, 9]}, r"has no stage 9. It has stages 1 \(the finest\) to 6"),
        ("auto", {"stages": 7}, r"has no stage 7"),
        ("match", {"pattern": ["features.4", "feature.9"]}, r"matches 'feature.9'.*'features.9'"),
        ("match", {"type": ["MaxPool2d", "Relu"]}, r"no module that runs is a Relu. .*'ReLU'"),
        ("match", {"pattern": ["features.4", 3]}, r"pattern=\['features.4', 3\] must be a text"),
    ],
)
def test_what_a_filter_names_and_the_network_has_not(
    vgg: Trace, policy: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        select(vgg, PolicyCall(policy, options))


def test_lists_work_wherever_a_glob_does(vgg: Trace) -> None:
    patterns = {"pattern": ["features.4", "*.9"], "type": ("MaxPool2d", "ReLU")}
    assert _paths(vgg, "match", patterns) == ["features.4", "features.9"]
    assert _paths(vgg, "match", {"pattern": "features.*", "type": ["MaxPool2d"]}) == POOLS


def test_no_pooling_modules() -> None:
    why = _why(nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4)), "pre-pool")
    assert "It has no spatial pooling layers" in why
    assert "Policies that match here: in-residual (1), post-residual (1), stage-end (1)." in why


def test_functional_pools_are_named() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(self.left(x) + self.right(x), 2)

    why = _why(nn.Sequential(Pools()), "pre-pool")
    assert "at 0: it is pooled by a function" in why


def test_nothing_matches_at_all() -> None:
    why = _why(nn.Conv2d(3, 3, 1), "pre-pool")
    assert "No policy matches here; policy 'match' takes any module" in why


def test_what_match_looked_for(vgg: Trace) -> None:
    assert "no modules of that name" in _why(vgg, "match", {"pattern": "layer*"})
    with pytest.raises(OptionError, match="needs pattern="):
        select(vgg, PolicyCall("match"))
    with pytest.raises(OptionError, match="where='between'"):
        select(vgg, PolicyCall("match", {"pattern": "x", "where": "between"}))


@pytest.mark.usefixtures("registries")
def test_places_that_could_not_be_used_are_listed(vgg: Trace) -> None:
    register_policy("none-fits")(lambda trace: [Skipped(f"a.{i}", f"reason {i}") for i in range(9)])
    why = _why(vgg, "none-fits")
    assert all(f"at a.{i}: reason {i}" in why for i in range(8))
    assert "reason 8" not in why


@pytest.mark.usefixtures("registries")
def test_results_of_a_policy_are_checked(vgg: Trace) -> None:
    register_policy("generator")(
        lambda trace: (trace.before(c) for c in trace.calls if c.type == "MaxPool2d")
    )
    assert _paths(vgg, "generator") == POOLS
    register_policy("backwards")(
        lambda trace: [trace.before(c) for c in reversed(trace.calls) if c.type == "MaxPool2d"]
    )
    assert _paths(vgg, "backwards") == POOLS
    for result in (None, 3, ["features.4"], [vgg.calls[3]]):
        register_policy("odd", overwrite=True)(lambda trace, result=result: result)
        with pytest.raises(SiteError, match=r"policy 'odd' returned .*trace.before"):
            select(vgg, PolicyCall("odd"))


@pytest.mark.parametrize("policy", ["pre-pool", "stage-end", "auto"])
def test_a_network_on_signals_is_told_how_to_become_one_on_maps(policy: str) -> None:
    signals = nn.Sequential(nn.Conv1d(2, 8, 9, 2, 4), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten())
    with pytest.raises(NoSitesError, match=r"\(1, 8, 128\)") as error:
        attnzoo.plan(signals, policy, example=torch.rand(1, 2, 256))
    assert "maps (N, C, 1, L)" in str(error.value)
    assert "takes any module" not in str(error.value)
