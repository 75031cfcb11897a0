"""Paths in the module tree, and the modules at them."""

from __future__ import annotations

import pytest
from torch import nn
from zoo import PlainVGG

from attnzoo.errors import SiteError
from attnzoo.hosts.tree import get_module, join, paths_by_module, split, walk


def test_paths_join_and_split() -> None:
    assert join("", "a") == "a"
    assert join("a.b", "c") == "a.b.c"
    assert split("a.b.c") == ("a.b", "c")
    assert split("a") == ("", "a")
    assert join(*split("layer1.0.conv")) == "layer1.0.conv"


def test_walk_meets_a_module_under_each_of_its_names() -> None:
    act = nn.ReLU()
    inner = nn.Sequential(act, nn.Sequential(act))
    model = nn.ModuleDict({"a": inner, "b": inner})
    model.register_module("nothing", None)
    paths = [path for path, _ in walk(model)]
    assert paths == ["", "a", "a.0", "a.1", "a.1.0", "b", "b.0", "b.1", "b.1.0"]
    assert paths_by_module(model) == {
        model: ("",),
        inner: ("a", "b"),
        act: ("a.0", "a.1.0", "b.0", "b.1.0"),
        inner[1]: ("a.1", "b.1"),
    }
    first = [where[0] for where in paths_by_module(model).values()]
    assert first == [path for path, _ in model.named_modules()]
    assert next(walk(model, "root"))[0] == "root"


def test_look_up_by_path() -> None:
    model = PlainVGG()
    assert get_module(model, "") is model
    for path, module in model.named_modules():
        assert get_module(model, path) is module


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("featurs", r"no module at 'featurs': the root \(PlainVGG\) has no child 'featurs' \(it "),
        ("features.9", r"features \(Sequential\) has no child '9' \(it has 0, 1, 2"),
        ("features.0.weight", r"features.0 \(Conv2d\) has no child .* \(it has no children\)"),
        ("features.0.a.b", "has no child 'a'"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(path: str, match: str) -> None:
    with pytest.raises(SiteError, match=match):
        get_module(PlainVGG(), path)


def test_a_child_that_is_none_is_not_there() -> None:
    model = nn.Module()
    model.register_module("norm", None)
    with pytest.raises(SiteError, match="has no child 'norm'"):
        get_module(model, "norm")
