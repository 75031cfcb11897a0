"""A recipe goes through JSON and brings everything back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from zoo import PlainVGG, outputs, same_bits

import attnzoo
from attnzoo import Recipe
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.policies.selection import PolicyCall
from attnzoo.surgery.recipe import parse_recipe

SIZE = (3, 64, 64)


@pytest.mark.parametrize(
    "policy",
    [
        "auto",
        ("pre-pool", {"stages": [1], "every": 1}),
        ["pre-pool", ("stage-end", {"occupied": "skip"})],
    ],
)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_round_trip_through_json(policy: Any, start: str) -> None:
    model = PlainVGG()
    attnzoo.wrap(model, policy, "se", start=start, example=SIZE, reduction=4)
    (recipe,) = attnzoo.recipes(model)
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert str(again) == str(recipe)
    assert again.input_size == SIZE
    other = attnzoo.wrap(PlainVGG(), again, example=SIZE)
    assert list(other.state_dict()) == list(model.state_dict())
    assert attnzoo.recipes(other) == [recipe]


def test_a_recipe_of_the_first_format_means_the_widths_of_its_time() -> None:
    old = {"policy": [["pre-pool", {}]], "block": "se", "options": {}, "start": "paper"}
    recipe = Recipe.from_dict(old)
    assert recipe.options == {"floor": 1}
    assert Recipe.from_dict({**old, "options": {"reduction": 4}}).options == {
        "floor": 1, "reduction": 4
    }  # fmt: skip
    model = attnzoo.wrap(PlainVGG(), recipe, example=SIZE)
    widths = [block.gate.fc1.out_channels for block in attnzoo.attention_modules(model).values()]
    assert widths == [1, 1]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    # a block without such an option, and one that is not installed here
    assert Recipe.from_dict({**old, "block": "coord"}).options == {}
    assert Recipe.from_dict({**old, "block": "elsewhere"}).options == {}


def test_tuples_sets_and_ranges_become_lists() -> None:
    for stages in ((1, 2), {1, 2}, range(1, 3)):
        recipe = parse_recipe(("pre-pool", {"stages": stages}), "se", "paper", {})
        data = json.loads(json.dumps(recipe.to_dict()))
        assert data["policy"] == [["pre-pool", {"stages": [1, 2]}]]
        assert attnzoo.plan(PlainVGG(), Recipe.from_dict(data), example=SIZE).sites


def test_a_recipe_brings_everything() -> None:
    recipe = parse_recipe("pre-pool", "se", "paper", {"reduction": 2})
    plan = attnzoo.plan(PlainVGG(), recipe, example=SIZE)
    assert plan.recipe == dataclasses.replace(recipe, input_size=SIZE)
    with pytest.raises(OptionError, match="Recipe brings its own block options; reduction"):
        attnzoo.plan(PlainVGG(), recipe, reduction=4, example=SIZE)


def test_a_recipe_is_checked() -> None:
    recipe = Recipe((PolicyCall("pre-pool"),), "se", {"reductio": 2})
    with pytest.raises(OptionError, match="reductio"):
        attnzoo.plan(PlainVGG(), recipe, example=SIZE)
    with pytest.raises(UnknownNameError, match="'see'"):
        attnzoo.plan(PlainVGG(), dataclasses.replace(recipe, block="see", options={}), example=SIZE)
    with pytest.raises(OptionError, match="start"):
        attnzoo.plan(PlainVGG(), Recipe((PolicyCall("pre-pool"),), "se", {}, "zero"), example=SIZE)
    data = Recipe((PolicyCall("pre-pool"),), "se").to_dict()
    with pytest.raises(UnknownNameError, match="pre-pol"):
        Recipe.from_dict({**data, "policy": [["pre-pol", {}]]})


def test_auto_is_resolved() -> None:
    model = attnzoo.wrap(PlainVGG(), ("auto", {"stages": 1}), "se", example=SIZE)
    (recipe,) = attnzoo.recipes(model)
    assert recipe.policies == (PolicyCall("pre-pool", {"stages": 1}),)
    assert str(recipe) == "pre-pool(stages=1) × se (start=identity)"


def test_options_are_copied() -> None:
    options = {"reduction": 4}
    recipe = parse_recipe("pre-pool", "se", "identity", options)
    options["reduction"] = 8
    assert recipe.options == {"reduction": 4}
    model = PlainVGG()
    before = outputs(model)
    assert same_bits(outputs(attnzoo.wrap(model, recipe, example=SIZE)), before)
