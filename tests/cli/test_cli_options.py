"""What the text of a flag becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnzoo.cli.options import Attention, Network, UsageError, parse_options, parse_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("True", True),
        ("None", None),
        ("null", None),
        ("auto", "auto"),
        ("3,4", [3, 4]),
        ("[3, 4]", [3, 4]),
        ("layer3.*,layer4.*", ["layer3.*", "layer4.*"]),
        ("layer[34].*", "layer[34].*"),
        ("*.conv", "*.conv"),
        ("a=b", "a=b"),
    ],
)
def test_an_option_becomes_a_number_a_word_a_list_or_stays_text(text, value):
    parsed = parse_options("--option", [f"name={text}"])["name"]
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.recursive(st.integers() | st.booleans() | st.none(), st.lists, max_leaves=5))
def test_whatever_json_can_say_an_option_can_say(value):
    assert parse_options("--option", [f"name={json.dumps(value)}"]) == {"name": value}


@pytest.mark.parametrize("text", ["reduction", "=8", "reduction=", "two words=8", "--x=3"])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_options("--option", [text])


def test_an_option_given_twice_is_refused_rather_than_one_of_them_dropped():
    with pytest.raises(UsageError, match=r"given twice.*stages=3,4"):
        parse_options("--policy-option", ["stages=3", "stages=4"])


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["224"], (3, 224, 224)),
        (["1x28x32"], (1, 28, 32)),
        (["1", "28", "32"], (1, 28, 32)),
        (["1×28×32"], (1, 28, 32)),
        (["1,28,32"], (1, 28, 32)),
    ],
)
def test_an_input_size_is_written_in_several_ways(words, size):
    assert parse_size(words) == size


@pytest.mark.parametrize(
    "words", [["3", "224"], ["0"], ["big"], ["3x224x"], ["-1"], ["3", "a", "5"]]
)
def test_what_is_no_size_is_refused(words):
    with pytest.raises(UsageError, match="3x224x224"):
        parse_size(words)


def test_policies_are_written_as_a_study_file_has_them():
    assert Attention().policies == "auto"
    assert Attention(policy=("mbconv",)).policies == "mbconv"
    assert Attention(policy=("mbconv",), policy_option=("every=2",)).policies == [
        "mbconv",
        {"every": 2},
    ]
    assert Attention(policy=("mbconv", "pre-pool")).policies == ["mbconv", "pre-pool"]


def test_without_a_size_the_network_has_its_own():
    assert Network().example is None
    assert Network(input_size=("64",)).example == (3, 64, 64)
