"""What was done is on record, and is taken back in reverse, of a part or of the whole."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from zoo import BACKBONES, SIZE, PlainVGG, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import NotWrappedError
from attnzoo.surgery.record import operations


def test_records_of_what_was_done() -> None:
    model = PlainVGG()
    assert attnzoo.recipes(model) == []
    assert attnzoo.attention_modules(model) == {}
    attnzoo.wrap(model, "pre-pool", "se", reduction=4, example=SIZE)
    attnzoo.wrap(model, ("match", {"pattern": "avgpool"}), "eca", start="paper", example=SIZE)
    first, second = attnzoo.recipes(model)
    assert (first.block, first.start, dict(first.options)) == ("se", "identity", {"reduction": 4})
    assert first.input_size == SIZE
    assert (second.block, second.start) == ("eca", "paper")
    assert list(attnzoo.attention_modules(model)) == [
        "features.attn_pre_2.block",
        "features.attn_pre_6.block",
        "avgpool.attention.block",
    ]
    assert [path for path, _ in operations(model)] == ["", ""]
    attnzoo.unwrap(model)
    assert attnzoo.recipes(model) == []


def test_unwrap_of_a_plain_model_says_so() -> None:
    with pytest.raises(NotWrappedError, match="PlainVGG"):
        attnzoo.unwrap(PlainVGG())
    with pytest.raises(ValueError, match="wrap"):
        attnzoo.unwrap(attnzoo.unwrap(attnzoo.wrap(PlainVGG(), "pre-pool", example=SIZE)))


class _Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = PlainVGG()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def test_wrap_a_part_then_the_whole_then_unwrap() -> None:
    model = _Detector()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model.backbone, "pre-pool", "se", example=SIZE)
    attnzoo.wrap(model, ("match", {"type": "Conv2d"}), "eca", example=SIZE)
    assert [path for path, _ in operations(model)] == ["backbone", ""]
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_wrap_the_whole_then_a_part_then_unwrap() -> None:
    model = _Detector()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "*avgpool"}), "se", example=SIZE)
    # the part's edits stand on the whole's: they have to go first
    stacked = ("match", {"pattern": "avgpool", "where": "after", "occupied": "stack"})
    attnzoo.wrap(model.backbone, stacked, "eca", example=SIZE)
    attnzoo.wrap(model.backbone, stacked, "eca", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 3
    assert [path for path, _ in operations(model)] == ["", "backbone", "backbone"]
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_unwrap_a_part_of_a_wrapped_whole_points_to_the_whole() -> None:
    model = attnzoo.wrap(_Detector(), "pre-pool", example=SIZE)
    state = snapshot(model)
    with pytest.raises(NotWrappedError, match="around it"):
        attnzoo.unwrap(model.backbone)
    assert snapshot(model) == state


def test_stacked_wraps_unwrap_in_reverse() -> None:
    model = BACKBONES["resnet18"]()
    before, untouched = outputs(model), snapshot(model)
    for block in ("se", "eca", "local"):
        attnzoo.wrap(model, ("in-residual", {"occupied": "stack"}), block, example=SIZE)
        attnzoo.wrap(model, ("pre-pool", {"occupied": "stack"}), block, example=SIZE)
        attnzoo.wrap(model, ("post-residual", {"occupied": "stack"}), block, example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 3 * (8 + 1 + 8)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched
    assert same_bits(outputs(model), before)
