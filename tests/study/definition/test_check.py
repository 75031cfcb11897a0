"""A study is refused before anything runs, with every combination that would fail."""

from __future__ import annotations

import pytest

from attnzoo.errors import StudyError
from attnzoo.study import check_study, parse_study

STUDY = {
    "name": "s",
    "data": {"name": "cluttered-digits", "size": 32},
    "train": {"freeze": "all"},
    "backbones": ["timm/test_resnet"],
    "variants": ["plain", {"policy": "post-residual", "block": "se"}],
    "controls": False,
}


def test_a_plain_network_of_which_nothing_would_learn() -> None:
    """Without it there is nothing to compare with."""
    with pytest.raises(StudyError, match="freeze='all' leaves a network without attention nothing"):
        check_study(parse_study(STUDY), classes=10)
    held = {**STUDY, "train": {"freeze": "backbone"}}
    assert len(check_study(parse_study(held), classes=10)) == 2


def test_a_network_that_does_not_take_the_images() -> None:
    backbone = {"name": "timm/test_resnet", "options": {"in_chans": 1}}
    with pytest.raises(StudyError, match="test_resnet fails on images of 32×32") as caught:
        check_study(parse_study({**STUDY, "train": {}, "backbones": [backbone]}), classes=10)
    assert "example=" not in str(caught.value)
