"""Fronts, nearness, screening and recommendations."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hw.experiment.config import RunConfig
from hw.sizing.config import SizingConfig
from hw.sizing.points import Point, dearer_by_delta_w, front, may_be_on_a_front, near_front, recommendations
from hw.sizing.space import DesignPoint

AXES = ("weight_bits", "ebops")


def sizing(**changes: Any) -> SizingConfig:
    plan = {"attack": {"kind": "fgsm"}, "epsilons_lsb": [16]}
    given_: dict[str, Any] = {"space": {"seed": [0]}, "screening": {"attacks": [plan]}, "costs": list(AXES)}
    return SizingConfig.model_validate(given_ | changes)


def point(bits: int, accuracy: float, ebops: int = 1, delta_w: float = 1.0, **settings: Any) -> Point:
    config = RunConfig(seed=bits * 1000 + round(accuracy * 999))
    cost = {"weight_bits": bits, "ebops": ebops, "latency_cycles_estimated": 1}
    found = Point(DesignPoint(tuple(settings.items()), config))
    found.measure = {"cost": cost, "delta_w": {"fc": delta_w}, "clean": {"accuracy": 1.0}}
    found.worst = {"accuracy": accuracy}
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


@given(POINTS)
def test_every_front_member_is_near_its_front(drawn: list[tuple[int, int, int]]) -> None:
    points = [point(bits, level / 6, ebops) for bits, level, ebops in drawn]
    near = {id(p) for p in near_front(points, AXES, 0.0, worst)}
    assert all(id(p) in near for axis in AXES for p in front(points, axis, worst))


def test_near_means_less_than_the_margin_below_what_costs_no_more() -> None:
    points = [point(10, 0.80), point(20, 0.78), point(30, 0.70)]
    assert near_front(points, ("weight_bits",), 0.03, worst) == points[:2]


def test_delta_w_sets_aside_only_what_differs_in_weights_and_is_no_cheaper() -> None:
    better = point(10, 0, delta_w=1.0, **{"quantization.clip": "mse", "mapping.mu": 0})
    worse = point(10, 0, delta_w=2.0, **{"quantization.clip": "max", "mapping.mu": 0})
    cheaper = point(9, 0, delta_w=2.0, **{"quantization.clip": "max", "mapping.mu": 0})
    mapped = point(10, 0, delta_w=2.0, **{"quantization.clip": "max", "mapping.mu": 7})
    coarse = point(10, 0, delta_w=2.0, **{"quantization.activation_bits": 4, "mapping.mu": 0})
    points = [better, worse, cheaper, mapped, coarse]
    assert dearer_by_delta_w(points, sizing().screening, AXES) == [worse]


def test_recommendations_name_the_smallest_good_one_the_best_and_the_best_in_a_budget() -> None:
    points = [point(10, 0.50), point(20, 0.70), point(30, 0.795), point(60, 0.80), point(80, 0.80)]
    named = recommendations(points, sizing(recommend={"within": 0.01, "budgets": [25, 5]}))
    assert [(item.why, item.point.cost("weight_bits")) for item in named] == [
        ("smallest within 1 point of the best", 30),
        ("best worst case", 60),
        ("best under 25 weight bits", 20),
    ]


def test_a_design_hidden_behind_a_flattered_one_is_not_forgotten() -> None:
    flattered, honest, hopeless = point(10, 0.40), point(20, 0.60), point(30, 0.20)
    bounds = {10: 0.90, 20: 0.70, 30: 0.35}

    def bound(found: Point) -> float:
        return bounds[found.cost("weight_bits")]

    axes = ("weight_bits",)
    assert near_front([flattered, honest, hopeless], axes, 0.03, bound) == [flattered]
    assert may_be_on_a_front([honest, hopeless], [flattered], axes, bound, worst) == [honest]
    assert may_be_on_a_front([hopeless], [flattered, honest], axes, bound, worst) == []


def test_nothing_is_recommended_without_a_worst_case() -> None:
    bare = point(10, 0.5)
    bare.worst = None
    assert recommendations([bare], sizing()) == []
