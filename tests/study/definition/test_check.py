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


def test_a_network_that_can_be_followed_only_in_part_is_refused_where_asked() -> None:
    study = {
        **STUDY,
        "train": {},
        "backbones": ["training:choosing_net"],
        "variants": ["plain", *({"policy": "pre-pool", "block": block} for block in ("se", "eca"))],
    }
    assert [cell.sites for cell in check_study(parse_study(study), classes=10)] == [0, 1, 1]
    with pytest.raises(StudyError, match=r"choosing_net, .*strict=True: values decide") as caught:
        check_study(parse_study({**study, "strict": True}), classes=10)
    assert str(caught.value).count("training.py:") == 1
    plain = {**study, "strict": True, "variants": ["plain"]}
    assert len(check_study(parse_study(plain), classes=10)) == 1
