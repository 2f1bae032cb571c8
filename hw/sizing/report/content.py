"""What a report says, as plain values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hw.sizing.asker import TITLES
from hw.sizing.conductor import Conductor
from hw.sizing.config import SizingConfig
from hw.sizing.points import Point, front, recommendations
from hw.sizing.space import short_value
from hw.sizing.steps import worst_case_steps

BITS = "quantization.weight_bits"
DELTA_W = "mean ||ΔW||"
SEARCHING = ("measure", "certify", "pool", "attack")


@dataclass(frozen=True)
class Named:
    """A recommended design and how to get it."""

    why: tuple[str, ...]
    point: Point
    command: str


@dataclass(frozen=True)
class StageTime:
    """Processor time a stage took, of all workers and all sessions together."""

    stage: str
    designs: int
    failed: int
    seconds: float

    @property
    def each(self) -> float:
        """Seconds a design."""
        return self.seconds / max(self.designs, 1)


@dataclass(frozen=True)
class Decided:
    """How far designs went before they were decided."""

    by: str
    designs: int
    seconds: float  # of processor time, for their attacks


@dataclass(frozen=True)
class Bought:
    """One step along the front."""

    before: Point
    after: Point

    @property
    def points(self) -> float:
        """Percentage points of worst-case accuracy."""
        return 100 * ((self.after.worst_accuracy or 0.0) - (self.before.worst_accuracy or 0.0))

    def per_thousand(self, axis: str) -> float | None:
        """The same for 1,000 of a cost; None where it costs no more of that."""
        more = self.after.cost(axis) - self.before.cost(axis)
        return self.points / (more / 1000) if more > 0 else None


@dataclass(frozen=True)
class Content:
    """Everything the writers need."""

    config: SizingConfig
    points: tuple[Point, ...]
    named: tuple[Named, ...]
    fronts: dict[str, list[Point]]  # by cost axis, by validation images
    stages: tuple[StageTime, ...]
    failed: tuple[Point, ...]

    @property
    def epsilon(self) -> float:
        """ε of the worst case, in LSBs."""
        return float(self.config.worst_case.epsilon_lsb)

    @property
    def chosen(self) -> Point | None:
        """The design recommended first."""
        return self.named[0].point if self.named else None

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(point): number for number, point in enumerate(self.points, 1)}

    def name_of(self, point: Point) -> str:
        """A short name: its number in the table."""
        return f"#{self._numbers[id(point)]}"

    @property
    def measured(self) -> list[Point]:
        """Designs that were built and costed."""
        return [point for point in self.points if point.measure]

    @property
    def attacked(self) -> list[Point]:
        """Designs of which at least one step of the worst case was taken."""
        return [point for point in self.points if point.steps]

    @property
    def scored(self) -> list[Point]:
        """Designs whose worst case is complete."""
        return [point for point in self.points if point.done]

    @property
    def bracketed(self) -> list[Point]:
        """Designs of which something is certified."""
        return [point for point in self.points if point.lower_bound]

    @property
    def tested(self) -> list[Point]:
        """Designs that were scored again on test images."""
        return [point for point in self.points if point.final]

    def saving(self) -> tuple[float, float] | None:
        """Processor seconds as it was, and as the worst case on every design would have taken; None: unknown."""
        if not self.scored:
            return None
        searched = sum(item.seconds for item in self.stages if item.stage in SEARCHING)
        each = sum(point.attack_seconds for point in self.scored) / len(self.scored)
        built = sum(item.seconds for item in self.stages if item.stage == "measure")
        return searched, built + each * len(self.measured)

    def decided(self) -> list[Decided]:
        """After what designs were decided."""
        labels = [step.label for step in worst_case_steps(self.config.worst_case.attack)]
        names = ["the pool alone", *labels[:-1], "the whole worst case", "a certificate of all that stood"]
        groups: dict[int, list[Point]] = {}
        for point in self.measured:
            proved = point.done and point.steps < len(labels)
            groups.setdefault(len(names) - 1 if proved else point.steps, []).append(point)
        return [
            Decided(names[place], len(group), sum(point.attack_seconds for point in group))
            for place, group in sorted(groups.items())
        ]

    def bought(self) -> list[Bought]:
        """What every step along the front of weight bits buys."""
        line = self.fronts.get("weight_bits", [])
        return [Bought(before, after) for before, after in itertools.pairwise(line)]

    def table(self) -> list[dict[str, Any]]:
        """One record a design, the same in every format. Accuracies are fractions."""
        return [self._record(point) for point in self.points]

    def _record(self, point: Point) -> dict[str, Any]:
        costs: dict[str, int | None] = {a: point.cost(a) if point.measure else None for a in self.config.costs}
        final = point.final or {}
        return {
            "design": self.name_of(point),
            **{key: short_value(value) for key, value in point.design.settings},
            **costs,
            DELTA_W: point.mean_delta_w,
            "clean": point.clean,
            "lower bound": point.lower_bound,
            "upper bound": point.bound,
            "worst case": point.worst_accuracy,
            "test clean": final["clean"]["accuracy"] if final else None,
            "test worst case": point.test_accuracy,
            "fronts": " ".join(axis for axis, members in self.fronts.items() if point in members),
            "set aside": point.set_aside,
            "flags": " ".join(flags(point)),
            "error": point.error.strip().splitlines()[-1] if point.error.strip() else "",
        }


def content_of(conductor: Conductor) -> Content:
    """Collect it."""
    config, points = conductor.config, list(conductor.points.values())
    points.sort(key=lambda point: (point.measure is None, point.cost("weight_bits") if point.measure else 0))
    scored = [point for point in points if point.done]
    fronts: dict[str, list[Point]] = {
        axis: front(scored, axis, lambda point: point.worst_accuracy) for axis in config.costs
    }
    reasons: dict[int, list[str]] = {}
    chosen: dict[int, Point] = {}
    for item in recommendations(points, config):
        reasons.setdefault(id(item.point), []).append(item.why)
        chosen[id(item.point)] = item.point
    named = tuple(Named(tuple(reasons[key]), point, conductor.command(point.design)) for key, point in chosen.items())
    failed = tuple(point for point in points if point.error)
    return Content(config, tuple(points), named, fronts, _stages(conductor), failed)


def flags(point: Point) -> list[str]:
    """Flags of any of its rows on test images."""
    rows = point.final["rows"] if point.final else []
    return sorted({flag for row in rows for flag in row["flags"]})


def _stages(conductor: Conductor) -> tuple[StageTime, ...]:
    """From the store, which remembers earlier sessions too; only what this config asks for."""
    records = list(conductor.asker.used.values())
    return tuple(
        StageTime(
            stage,
            sum(record.stage == stage and not record.error for record in records),
            sum(record.stage == stage and record.error is not None for record in records),
            sum(record.seconds for record in records if record.stage == stage),
        )
        for stage in TITLES
        if any(record.stage == stage for record in records)
    )
