"""The registries: names, wildcards, options, entry points of other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.registry import (
    BLOCKS,
    POLICIES,
    BlockSpec,
    Registry,
    list_policies,
    register_block,
    register_policy,
)

pytestmark = pytest.mark.usefixtures("registries")


class Gate(nn.Module):
    """Scales by a number.

    More about it.
    """

    def __init__(self, channels: int, scale: float = 2.0, *, bias: bool = False) -> None:
        super().__init__()
        self.scale = scale + bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def other_gate(channels: int) -> nn.Module:
    return Gate(channels)


def test_a_registered_class_is_listed_described_and_built() -> None:
    assert (
        register_block(
            "my-gate",
            kind="channel",
            year=2024,
            maps={"a.b": "spatial"},
            limits={"onnx": "It has no such operation."},
        )(Gate)
        is Gate
    )
    assert "my-gate" in attnzoo.list_blocks()
    assert "my-gate" in BLOCKS
    spec = BLOCKS["my-gate"]
    assert (spec.kind, spec.year, dict(spec.maps)) == ("channel", 2024, {"a.b": "spatial"})
    assert dict(spec.limits) == {"onnx": "It has no such operation."}
    assert spec.options == {"scale": 2.0, "bias": False}
    assert spec.summary == "Scales by a number."
    assert attnzoo.create_block("my-gate", 4, scale=3.0, bias=True).scale == 4.0
    with pytest.raises(TypeError):
        spec.maps["c"] = "channel"
    with pytest.raises(TypeError):
        spec.limits["maps"] = "none"


def test_every_spec_of_the_package_is_complete() -> None:
    for spec in BLOCKS:
        if spec.factory.__module__.startswith("attnzoo."):
            assert spec.title, spec.name
            assert spec.summary, spec.name
            assert spec.kind == "control" or spec.paper, spec.name
            assert (spec.arxiv is None) or spec.year, spec.name


def test_a_misspelt_name_lists_the_closest_and_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        attnzoo.create_block("lcoal", 8)
    message = str(caught.value)
    assert message.startswith("no block is called 'lcoal'. Did you mean 'local'")
    assert f"There are: {', '.join(attnzoo.list_blocks())}." in message
    with pytest.raises(KeyError, match=r"no block is called 'zzzz'\. There are"):
        BLOCKS["zzzz"]
    with pytest.raises(UnknownNameError, match="no policy is called 'zzzz'"):
        POLICIES["zzzz"]


def test_listing_matches_wildcards_in_natural_order() -> None:
    for name in ("zz10", "zz9", "zz-a", "zz1²", "zz1b2", "zz1b10"):
        register_block(name)(Gate)
    assert attnzoo.list_blocks("zz*") == ["zz1b2", "zz1b10", "zz1²", "zz9", "zz10", "zz-a"]
    assert attnzoo.list_blocks("zz?") == ["zz9"]
    assert attnzoo.list_blocks("ZZ*") == []
    assert [spec.name for spec in BLOCKS] == attnzoo.list_blocks()


def test_a_taken_name_is_refused_unless_overwritten() -> None:
    register_block("twice")(Gate)
    with pytest.raises(OptionError, match=r"block 'twice' is registered already.*overwrite=True"):
        register_block("twice")(other_gate)
    assert BLOCKS["twice"].factory is Gate
    register_block("twice", overwrite=True)(other_gate)
    assert BLOCKS["twice"].factory is other_gate


@pytest.mark.parametrize("name", ["", "a b", "a*", "a/b", "a[0]", "a?"])
def test_names_that_a_wildcard_or_a_path_would_trip_over_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match="block name"):
        register_block(name)(Gate)


def test_bad_kinds_are_refused_when_registering() -> None:
    with pytest.raises(OptionError, match=r"kind='chanel' is not one of .*'channel'.*Did you mean"):
        register_block("x", kind="chanel")
    with pytest.raises(OptionError, match=r"maps\['gate'\]='control' is not one of"):
        register_block("x", maps={"gate": "control"})
    with pytest.raises(OptionError, match=r"limits='shape' is not one of .*Did you mean 'shapes'"):
        register_block("x", limits={"shape": "C must be even."})
    assert "x" not in BLOCKS


def test_options_of_a_factory_that_takes_anything_are_still_checked() -> None:
    def greedy(channels: int, scale: float = 1.0, **rest: object) -> nn.Module:
        return Gate(channels, scale)

    register_block("greedy")(greedy)
    with pytest.raises(OptionError, match=r"'greedy' has no option 'scael'\. Did you mean"):
        attnzoo.create_block("greedy", 4, scael=1.0)


def test_policies_have_their_own_names() -> None:
    @register_policy("every-relu", source="a test")
    def every_relu(trace: object, skip: int = 0) -> list[object]:
        """All of them."""
        return []

    spec = POLICIES["every-relu"]
    assert (spec.find, spec.source, spec.options) == (every_relu, "a test", {"skip": 0})
    assert spec.summary == "All of them."
    assert "every-relu" in list_policies("every-*")
    assert "every-relu" not in BLOCKS


# ------------------------------------------------------------------------- entry points

Offer = Callable[..., Registry[BlockSpec]]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Pretend that an installed package `other` offers these entry points: name → attribute."""

    def install(names: dict[str, str], **contents: object) -> Registry[BlockSpec]:
        module = ModuleType("other")
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, "other", module)
        groups = {"attnzoo.blocks": [EntryPoint(n, v, "attnzoo.blocks") for n, v in names.items()]}
        monkeypatch.setattr(
            "attnzoo.registry.names.entry_points", lambda group: groups.get(group, [])
        )
        monkeypatch.setattr(BLOCKS, "_entry_points_read", False)
        return BLOCKS

    return install


def test_an_entry_point_names_a_class_to_register(offer: Offer) -> None:
    offer({"other-gate": "other:Gate"}, Gate=Gate)
    assert attnzoo.create_block("other-gate", 4, scale=5.0).scale == 5.0
    assert "other-gate" in attnzoo.list_blocks()


def test_built_in_names_are_found_without_loading_other_packages(offer: Offer) -> None:
    offer({"slow": "missing_package:Gate"})
    attnzoo.create_block("se", 8)
    assert not BLOCKS._entry_points_read


def test_an_entry_point_may_register_by_decorator_on_import(offer: Offer) -> None:
    class Importing:
        """A module's attribute whose look-up registers, as importing the module would."""

        def __get__(self, *_: object) -> type[nn.Module]:
            return register_block("self-made", kind="spatial", overwrite=True)(Gate)

    offer({"self-made": "other:holder.block"}, holder=type("Holder", (), {"block": Importing()}))
    assert BLOCKS["self-made"].kind == "spatial"


def test_a_package_imported_before_is_not_a_clash(
    offer: Offer, recwarn: pytest.WarningsRecorder
) -> None:
    register_block("early", kind="context")(Gate)
    offer({"early": "other:Gate"}, Gate=Gate)
    assert "early" in attnzoo.list_blocks()
    assert BLOCKS["early"].kind == "context"
    assert not recwarn


def test_an_entry_point_may_be_a_module(offer: Offer, recwarn: pytest.WarningsRecorder) -> None:
    offer({"collection": "other"})
    assert "collection" not in attnzoo.list_blocks()
    assert not recwarn


def test_a_broken_or_clashing_package_is_left_out_with_a_warning(offer: Offer) -> None:
    offer({"broken": "other:Missing", "se": "other:Gate", "fine": "other:Gate"}, Gate=Gate)
    with pytest.warns(UserWarning, match="is left out") as caught:
        names = attnzoo.list_blocks()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert (
        "block 'broken' of entry point 'other:Missing' is left out: AttributeError" in messages[0]
    )
    assert "block 'se' is registered already" in messages[1]
    assert "fine" in names
    assert "broken" not in names
    assert BLOCKS["se"].factory is not Gate
