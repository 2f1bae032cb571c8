"""What a report says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.sizing.asker import TITLES
from hw.sizing.conductor import Conductor
from hw.sizing.config import SizingConfig
from hw.sizing.points import Point, front, recommendations
from hw.sizing.space import short_value

BITS = "quantization.weight_bits"
DELTA_W = "mean ||ΔW||"


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

    def name_of(self, point: Point) -> str:
        """A short name: its number in the table."""
        return f"#{self.points.index(point) + 1}"

    def count(self, stage: str) -> int:
        """How many designs have this stage's answer."""
        return sum(getattr(point, stage) is not None for point in self.points)

    def saving(self) -> tuple[float, float] | None:
        """Processor seconds as it was, and as the worst case on every design would have taken; None: unknown."""
        by_name = {item.stage: item for item in self.stages}
        worst, screen = by_name.get("worst"), by_name.get("screen")
        if worst is None or screen is None or not worst.designs:
            return None
        searched = sum(item.seconds for item in self.stages if item.stage not in ("train", "final"))
        without = searched - screen.seconds + worst.each * (self.count("measure") - worst.designs)
        return searched, without

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
            **{f"{attack} {epsilon:g}": value for attack, epsilon, value in attacked(point)},
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
    scored = [point for point in points if point.worst]
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


def attacked(point: Point) -> list[tuple[str, float, float]]:
    """The cheap attacks' accuracies: attack, ε, accuracy."""
    rows = point.screen["rows"] if point.screen else []
    return [(row["attack"], row["epsilon_lsb"], row["accuracy"]) for row in rows if row["attack"] != "clean"]


def flags(point: Point) -> list[str]:
    """Flags of any of its rows, test rows included."""
    rows = [row for part in (point.screen, point.final) if part for row in part["rows"]]
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
