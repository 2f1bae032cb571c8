"""What is known of each design, read from the store's plain records; fronts, nearness, recommendations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw.sizing.config import SizingConfig
from hw.sizing.pool import Mask
from hw.sizing.space import DesignPoint
from qmodels.errors import Contradiction
from qmodels.statistics import mean_interval, wilson

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
    """A design with the answers it has so far. `fallen` is of the validation images that are attacked."""

    design: DesignPoint
    measure: dict[str, Any] | None = None
    final: dict[str, Any] | None = None
    fallen: Mask | None = None  # to anything that was tried
    fell_to: dict[str, int] = field(default_factory=dict)  # images by what they fell to
    certified: Mask | None = None  # no attack in the ball can break these; None: nobody asked
    generations: int = 0  # of the pool that were tried
    steps: int = 0  # of the worst case that were taken
    done: bool = False  # all of them were, or no image is open any more
    attack_seconds: float = 0.0  # of processor time, for these
    replicates: list[float] = field(default_factory=list)  # worst cases on test images with other seeds
    set_aside: str = ""  # why the worst case was not gone through with
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

    @property
    def bound(self) -> float | None:
        """Accuracy under all that was tried: an upper bound of the worst case on the same images."""
        return None if self.fallen is None else _share(~self.fallen)

    @property
    def lower_bound(self) -> float | None:
        """Share of the same images that are certified; None where nobody asked."""
        return None if self.certified is None else _share(self.certified)

    @property
    def at_least(self) -> float | None:
        """What the worst case is not below: itself once it is complete, else the certified share."""
        return self.bound if self.done else self.lower_bound

    @property
    def worst(self) -> dict[str, Any] | None:
        """The worst case on validation images with its evidence; None until it is complete."""
        if self.fallen is None or not self.done:
            return None
        stood, n = int(len(self.fallen) - self.fallen.sum()), len(self.fallen)
        return {"accuracy": stood / n, "n": n, "ci95": list(wilson(stood, n)), "fell_to": self.fell_to}

    @property
    def worst_accuracy(self) -> float | None:
        """Worst-case accuracy on validation images: what designs are chosen by."""
        return self.bound if self.done else None

    @property
    def test_accuracy(self) -> float | None:
        """Worst-case accuracy on test images: what is reported of the chosen ones."""
        return float(self.final["worst"]["accuracy"]) if self.final else None

    @property
    def over_seeds(self) -> tuple[float, float, float] | None:
        """Mean worst case on test images over the seeds, its own among them, and a 95 % interval of that mean."""
        own = self.test_accuracy
        return mean_interval([own, *self.replicates]) if own is not None and self.replicates else None

    def take_over(self, fallen: Mask, to: str) -> int:
        """Note what fell to something; how many images that were."""
        before = 0 if self.fallen is None else int(self.fallen.sum())
        self.fallen = fallen
        fell = int(fallen.sum()) - before
        if fell:
            self.fell_to[to] = self.fell_to.get(to, 0) + fell
        self.close()
        return fell

    def take_proof(self, certified: Mask) -> None:
        """Note which images are certified."""
        self.certified = certified
        self.close()

    def close(self) -> None:
        """The worst case is known where every image is certified or has fallen.

        Raises:
            Contradiction: an image is both.
        """
        if self.certified is None or self.fallen is None:
            return
        if (self.certified & self.fallen).any():
            raise Contradiction(
                f"{self.design.title()}: validation image {int(np.argmax(self.certified & self.fallen))} is certified, "
                "and an attack has broken it: a defect of ours"
            )
        self.done = self.done or bool((self.certified | self.fallen).all())


def _share(images: Mask) -> float:
    """Bounds are compared: the same number of images must be the same float."""
    return int(np.count_nonzero(images)) / len(images)


def front(points: Sequence[Point], axis: str, score: Score) -> list[Point]:
    """The Pareto front: no other point costs at most as much and scores better, or costs less and scores as well.

    Of points that are equal in both, the one that comes first by `tie`.
    """
    scored = [(point.cost(axis), -value, point) for point in points if (value := score(point)) is not None]
    found: list[Point] = []
    best = float("inf")
    for cost, loss, point in sorted(scored, key=lambda item: item[:2]):
        if loss < best:
            best = loss
            found.append(point)
        elif loss == best and cost == found[-1].cost(axis) and tie(point) < tie(found[-1]):
            found[-1] = point
    return found


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
    smallest = min(enough, key=lambda point: (point.cost("weight_bits"), -(point.worst_accuracy or 0), tie(point)))
    named = [
        Recommendation(f"smallest within {_points(config.recommend.within)} of the best", smallest),
        Recommendation("best worst case", best),
    ]
    # from all that were built: which of them were attacked depends on the screening
    for budget in config.recommend.budgets or _budgets([point for point in points if point.measure is not None]):
        fitting = [point for point in scored if point.cost("weight_bits") <= budget]
        if fitting:
            named.append(Recommendation(f"best under {budget:,} weight bits", _best(fitting)))
    return named


def _points(share: float) -> str:
    return f"{100 * share:g} point" + "s" * (share != 0.01)


def _best(points: Sequence[Point]) -> Point:
    return min(points, key=lambda point: (-(point.worst_accuracy or 0.0), point.cost("weight_bits"), tie(point)))


def tie(point: Point) -> tuple[int, int, str]:
    """Of designs that are equal in what was asked, the smallest comes first."""
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
