"""The front, against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from studies import result

from attnzoo.study.numbers.costs import BackboneCosts, Costs, Spread, VariantCosts
from attnzoo.study.numbers.pareto import cost_of, fronts, on_front
from attnzoo.study.numbers.stats import summarise

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(points)
def test_nothing_on_the_front_is_beaten_and_all_else_is(found: list[tuple[int, int]]) -> None:
    marks = on_front(found)
    for point, marked in zip(found, marks, strict=True):
        beaten = [
            other
            for other in found
            if (other[0] < point[0] and other[1] >= point[1])
            or (other[0] <= point[0] and other[1] > point[1])
        ]
        assert marked == (not beaten)
    front = {point for point, marked in zip(found, marks, strict=True) if marked}
    for cost, accuracy in found:  # each is beaten or matched by one on the front
        assert any(c <= cost and a >= accuracy for c, a in front)


@given(points, st.permutations(range(12)))
def test_the_order_does_not_matter(found: list[tuple[int, int]], order: list[int]) -> None:
    places = [i for i in order if i < len(found)]
    marks, moved = on_front(found), on_front([found[i] for i in places])
    assert [marks[i] for i in places] == moved


def test_equal_points_are_both_on_the_front() -> None:
    assert on_front([(1, 0.5), (1, 0.5), (1, 0.4)]) == [True, True, False]


def spread(value: float) -> Spread:
    return Spread(median=value, low=value, high=value)


def test_fronts_are_of_one_backbone_and_of_what_was_measured() -> None:
    rows = summarise(
        [
            *(result("plain", 0, 0.5, backbone=name) for name in ("a", "b")),
            result("worse", 0, 0.4, backbone="a"),
            result("better", 0, 0.6, backbone="b"),
            result("lost", 0, None, backbone="b"),
        ]
    )
    # Plain has the fewest parameters and MACs, so that it is on every front.
    found = fronts(rows, None)
    assert found["a", "plain"] == found["b", "plain"] == ["parameters", "MACs"]
    assert found["b", "better"] == ["parameters", "MACs"]
    assert found["a", "worse"] == found["b", "lost"] == []
    measured = [
        VariantCosts(
            variant=name,
            latency=spread(ms),
            slowdown=spread(1),
            images_per_second=spread(1),
            saved_bytes=kept,
        )
        for name, ms, kept in (("plain", 1.0, 100), ("better", 2.0, 100))
    ]
    entry = BackboneCosts(
        backbone="b", key="", device="", measured="", batch_size=1, size=1, variants=measured
    )
    costs = Costs(backbones=(entry,))
    found = fronts(rows, costs)
    assert found["b", "plain"] == ["parameters", "MACs", "latency"]
    assert found["b", "better"] == ["parameters", "MACs", "latency", "memory"]
    assert found["a", "plain"] == ["parameters", "MACs"]
    row = next(row for row in rows if (row.backbone, row.variant) == ("b", "better"))
    assert cost_of(row, "latency", costs) == 0.002
    assert cost_of(row, "memory", costs) == 100
    assert cost_of(row, "latency", None) is None
