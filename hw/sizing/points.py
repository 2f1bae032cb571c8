"""What is known of each design, read from the store's plain records; fronts, nearness, recommendations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hw.sizing.config import ScreeningConfig, SizingConfig
from hw.sizing.space import DesignPoint

#: Cost axes of the config, and their keys in `hw.cost`.
COST_KEYS = {
    "weight_bits": "weight_bits",
    "ebops": "ebops",
    "latency_cycles": "latency_cycles_estimated",
    "luts": "luts_estimated",
    "bram_18k": "bram_18k",
    "dsps": "dsps_estimated",
}
AXIS_NAMES = {
    "weight_bits": "weight bits in all",
    "ebops": "EBOPs",
    "latency_cycles": "latency, cycles",
    "luts": "LUTs (estimate)",
    "bram_18k": "BRAM18",
    "dsps": "DSPs (estimate)",
}
Score = Callable[["Point"], "float | None"]


@dataclass(eq=False)
class Point:
    """A design with the answers it has so far."""

    design: DesignPoint
    measure: dict[str, Any] | None = None
    screen: dict[str, Any] | None = None
    worst: dict[str, Any] | None = None
    final: dict[str, Any] | None = None
    set_aside: str = ""  # why the worst case was not asked
    error: str = ""

    def cost(self, axis: str) -> int:
        """One cost; the design must have been measured."""
        assert self.measure is not None
        return int(self.measure["cost"][COST_KEYS[axis]])

    def costs(self, axes: Sequence[str]) -> tuple[int, ...]:
        """Several costs."""
        return tuple(self.cost(axis) for axis in axes)

    @property
    def mean_delta_w(self) -> float | None:
        """Mean over the layers of ||ΔW||_2; None for a model that came quantized."""
        norms = list(self.measure["delta_w"].values()) if self.measure else []
        return sum(norms) / len(norms) if norms else None

    @property
    def clean(self) -> float | None:
        """Clean accuracy on validation images."""
        return float(self.measure["clean"]["accuracy"]) if self.measure else None

    def screened(self, epsilon_lsb: float) -> float | None:
        """Lowest accuracy of the cheap attacks at one ε, on few validation images."""
        rows = self.screen["rows"] if self.screen else []
        found = [row["accuracy"] for row in rows if row["attack"] != "clean" and row["epsilon_lsb"] == epsilon_lsb]
        return float(min(found)) if found else None

    @property
    def worst_accuracy(self) -> float | None:
        """Worst-case accuracy on validation images: what designs are chosen by."""
        return float(self.worst["accuracy"]) if self.worst else None

    @property
    def test_accuracy(self) -> float | None:
        """Worst-case accuracy on test images: what is reported of the chosen ones."""
        return float(self.final["worst"]["accuracy"]) if self.final else None


def front(points: Sequence[Point], axis: str, score: Score) -> list[Point]:
    """The Pareto front: no other point costs at most as much and scores better, or costs less and scores as well."""
    scored = [(point.cost(axis), -value, point) for point in points if (value := score(point)) is not None]
    found: list[Point] = []
    best = float("inf")
    for _, loss, point in sorted(scored, key=lambda item: (item[0], item[1], item[2].design.key)):
        if loss < best:
            best = loss
            found.append(point)
    return found


def dearer_by_delta_w(points: Sequence[Point], screening: ScreeningConfig, axes: Sequence[str]) -> list[Point]:
    """Designs that another one, equal but for how weights are rounded and no dearer, beats in ||ΔW|| by far."""
    if screening.delta_w is None or screening.off:
        return []
    known = [(point, norm, point.costs(axes)) for point in points if (norm := point.mean_delta_w) is not None]
    groups: dict[Any, list[tuple[Point, float, tuple[int, ...]]]] = {}
    for item in known:
        groups.setdefault(item[0].design.others, []).append(item)
    return [
        point
        for group in groups.values()
        for point, norm, costs in group
        if any(
            other * screening.delta_w < norm and all(a <= b for a, b in zip(dearness, costs, strict=True))
            for _, other, dearness in group
        )
    ]


def near_front(points: Sequence[Point], axes: Sequence[str], near: float, score: Score) -> list[Point]:
    """Points that on some axis are less than `near` below the best score that costs at most as much."""
    scored = [(point, value) for point in points if (value := score(point)) is not None]

    def is_near(point: Point, value: float, axis: str) -> bool:
        return value + near >= max(other for peer, other in scored if peer.cost(axis) <= point.cost(axis))

    return [point for point, value in scored if any(is_near(point, value, axis) for axis in axes)]


def may_be_on_a_front(
    points: Sequence[Point], tested: Sequence[Point], axes: Sequence[str], bound: Score, score: Score
) -> list[Point]:
    """Points whose upper bound on some axis beats every score that costs at most as much."""
    known = [(peer, value) for peer in tested if (value := score(peer)) is not None]

    def beats(point: Point, value: float, axis: str) -> bool:
        return value > max((other for peer, other in known if peer.cost(axis) <= point.cost(axis)), default=-1.0)

    bounded = [(point, value) for point in points if (value := bound(point)) is not None]
    return [point for point, value in bounded if any(beats(point, value, axis) for axis in axes)]


@dataclass(frozen=True)
class Recommendation:
    """A named design."""

    why: str
    point: Point


def recommendations(points: Sequence[Point], config: SizingConfig) -> list[Recommendation]:
    """The best design, the smallest near it, the best under each budget of weight bits; by validation images."""
    scored = [point for point in points if point.worst_accuracy is not None]
    if not scored:
        return []
    best = _best(scored)
    top = best.worst_accuracy or 0.0
    enough = [point for point in scored if (point.worst_accuracy or 0.0) >= top - config.recommend.within - 1e-9]
    smallest = min(enough, key=lambda point: (point.cost("weight_bits"), -(point.worst_accuracy or 0), _tie(point)))
    named = [
        Recommendation(f"smallest within {_points(config.recommend.within)} of the best", smallest),
        Recommendation("best worst case", best),
    ]
    for budget in config.recommend.budgets or _budgets(scored):
        fitting = [point for point in scored if point.cost("weight_bits") <= budget]
        if fitting:
            named.append(Recommendation(f"best under {budget:,} weight bits", _best(fitting)))
    return named


def _points(share: float) -> str:
    return f"{100 * share:g} point" + "s" * (share != 0.01)


def _best(points: Sequence[Point]) -> Point:
    return min(points, key=lambda point: (-(point.worst_accuracy or 0.0), point.cost("weight_bits"), _tie(point)))


def _tie(point: Point) -> tuple[int, int, str]:
    return point.cost("ebops"), point.cost("latency_cycles"), point.design.key


def _budgets(points: Sequence[Point]) -> tuple[int, ...]:
    """Three budgets between the smallest and the largest design, two leading digits, evenly in ratio."""
    sizes = sorted(point.cost("weight_bits") for point in points)
    low, high = sizes[0], sizes[-1]
    if high <= low:
        return ()
    return tuple(dict.fromkeys(_round_up(low * (high / low) ** share) for share in (0.25, 0.5, 0.75)))


def _round_up(value: float) -> int:
    unit = int(10 ** max(len(str(int(value))) - 2, 0))
    return -(-int(value) // unit) * unit
