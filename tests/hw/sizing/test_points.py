"""Fronts, bounds and recommendations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw.experiment.config import RunConfig
from hw.sizing.config import SizingConfig
from hw.sizing.points import Point, front, recommendations
from hw.sizing.ranking import Ranking
from hw.sizing.space import DesignPoint

AXES = ("weight_bits", "ebops")
N = 6000
_SEEDS = itertools.count()  # no two designs are the same


def sizing(**changes: Any) -> SizingConfig:
    given_: dict[str, Any] = {"space": {"seed": [0]}, "costs": list(AXES)}
    return SizingConfig.model_validate(given_ | changes)


def point(bits: int, accuracy: float, ebops: int = 1, delta_w: float = 1.0, **settings: Any) -> Point:
    config = RunConfig(seed=next(_SEEDS))
    cost = {"weight_bits": bits, "ebops": ebops, "latency_cycles_estimated": 1}
    found = Point(DesignPoint(tuple(settings.items()), config))
    found.measure = {"cost": cost, "delta_w": {"fc": delta_w}, "clean": {"accuracy": 1.0}}
    found.fallen = np.arange(N) >= round(N * accuracy)
    found.done = True
    return found


def worst(found: Point) -> float | None:
    return found.worst_accuracy


POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_holds_no_dominated_point_and_all_others_are_dominated(drawn: list[tuple[int, int, int]]) -> None:
    points = [point(bits, level / 6, ebops) for bits, level, ebops in drawn]
    found = front(points, "weight_bits", worst)

    def dominated(p: Point) -> bool:
        return any(
            q.cost("weight_bits") <= p.cost("weight_bits")
            and (q.worst_accuracy or 0) >= (p.worst_accuracy or 0)
            and (q.cost("weight_bits"), q.worst_accuracy) != (p.cost("weight_bits"), p.worst_accuracy)
            for q in points
        )

    assert not any(dominated(p) for p in found)
    kept = {(p.cost("weight_bits"), p.worst_accuracy) for p in found}
    assert all(dominated(p) or (p.cost("weight_bits"), p.worst_accuracy) in kept for p in points)
    assert [p.cost("weight_bits") for p in found] == sorted(p.cost("weight_bits") for p in found)


def bounds_of(points: Sequence[Point]) -> NDArray[np.float64]:
    return np.array([p.worst_accuracy for p in points], float)


@given(POINTS, POINTS)
def test_a_bound_is_hopeful_where_it_would_be_on_a_front_as_a_score(
    drawn: list[tuple[int, int, int]], done: list[tuple[int, int, int]]
) -> None:
    waiting = [point(bits, level / 6, ebops) for bits, level, ebops in drawn]
    tested = [point(bits, level / 6, ebops) for bits, level, ebops in done]
    both = [*waiting, *tested]
    known = bounds_of(both)
    known[: len(waiting)] = np.nan
    hopeful = Ranking(both, AXES).hopeful(bounds_of(both), known)
    for place, p in enumerate(waiting):
        assert hopeful[place] == any(p in front([p, *tested], axis, worst) for axis in AXES)


@given(POINTS, st.integers(1, 12))
def test_fronts_come_first_then_the_fronts_of_the_rest(drawn: list[tuple[int, int, int]], count: int) -> None:
    points = [point(bits, level / 6, ebops) for bits, level, ebops in drawn]
    found = Ranking(points, AXES).ranked(bounds_of(points), np.arange(len(points)), count)
    expected: dict[int, Point] = {}
    rest = points
    while rest:
        layer = {id(p): p for axis in AXES for p in front(rest, axis, worst)}
        expected |= layer
        rest = [p for p in rest if id(p) not in layer]
    assert set(map(id, found)) <= set(map(id, points)) and len(found) == min(count, len(points))
    firsts = {id(p) for axis in AXES for p in front(points, axis, worst)}
    assert set(map(id, found)) <= firsts or firsts <= set(map(id, found))
    assert len(points) > count or set(map(id, found)) == set(expected)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_who_is_left_out_by_a_lower_bound_would_not_have_been_named(drawn: list[tuple[int, int, int]]) -> None:
    """Scores anywhere between the bounds: the fronts are those of the designs that were not left out."""
    points = [point(cost, level / 4) for cost, level, _ in drawn]
    lower = np.array([min(level, proved) / 4 for _, level, proved in drawn])
    upper = np.array([max(level, proved) / 4 for _, level, proved in drawn])
    left = Ranking(points, AXES).hopeful(upper, lower) | (lower == upper)
    kept = [p for p, stays in zip(points, left, strict=True) if stays]
    assert set(map(id, front(points, "weight_bits", worst))) <= set(map(id, kept))


def test_recommendations_name_the_smallest_good_one_the_best_and_the_best_in_a_budget() -> None:
    points = [point(10, 0.50), point(20, 0.70), point(30, 0.795), point(60, 0.80), point(80, 0.80)]
    named = recommendations(points, sizing(recommend={"within": 0.01, "budgets": [25, 5]}))
    assert [(item.why, item.point.cost("weight_bits")) for item in named] == [
        ("smallest within 1 point of the best", 30),
        ("best worst case", 60),
        ("best under 25 weight bits", 20),
    ]


def test_budgets_do_not_depend_on_which_designs_were_attacked() -> None:
    points = [point(cost, 0.5) for cost in (100, 400, 900, 2000)]
    names = {item.why for item in recommendations(points, sizing())}
    for bare in (points[0], points[3]):
        bare.done = False
        assert {item.why for item in recommendations(points, sizing())} <= names
        bare.done = True
    assert len(names) > 3


def test_nothing_is_recommended_without_a_worst_case() -> None:
    bare = point(10, 0.5)
    bare.done = False
    assert recommendations([bare], sizing()) == []
