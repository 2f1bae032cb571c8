"""The run of a sizing: which questions are asked of which designs, and when."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw.experiment.config_text import read_text
from hw.sizing.asker import TITLES, Asker
from hw.sizing.config import Choice, SizingConfig
from hw.sizing.contest import Contest, NotComputed
from hw.sizing.crew import Crew
from hw.sizing.modes import Bits, Knob, Tried, descend, knobs_of, search
from hw.sizing.points import Point, front, recommendations
from hw.sizing.pool import unpack_mask
from hw.sizing.space import DesignPoint, command, grid, make_design, unique
from hw.sizing.store import Store
from qmodels.errors import UserError

EXPERIMENT = "experiment.yaml"  # in the sizing's folder


class Conductor:
    """Takes designs through the stages."""

    def __init__(
        self, config: SizingConfig, folder: Path, store: Store, crew: Crew | None, data_dir: Path | None = None
    ) -> None:
        """`crew` None: nothing is computed; what the store has is what there is."""
        self.config, self.folder = config, folder
        self.asker = Asker(config, folder, store, crew, data_dir)
        self.experiment = read_text(folder / EXPERIMENT)
        self.points: dict[str, Point] = {}
        self.contest = Contest(config, self.asker)

    def run(self) -> list[Point]:
        """Every stage; the points with all that is known of them."""
        with contextlib.suppress(*([NotComputed] if self.asker.crew is None else [])):  # report what there is
            self._propose()
            self.contest.decide(list(self.points.values()))
        points = list(self.points.values())
        self._finals(points)
        return points

    def _propose(self) -> None:
        if self.config.mode == "search":
            search(self.config.space, len(self.config.costs), self.config.search, self._objectives)
        elif self.config.mode == "layerwise":
            self._descents()
        else:
            self._measure(unique(self.design(settings) for settings in grid(self.config.space)))

    def design(self, settings: Mapping[str, Choice]) -> DesignPoint:
        """The design of some settings of the space."""
        return make_design(self.experiment, str(self.folder / EXPERIMENT), settings)

    def command(self, design: DesignPoint) -> str:
        """The command that generates a design's HLS project from the model that was scored."""
        return command(design, self.folder, self.asker.data_dir, f"{self.config.name[:50]}-{design.key[:8]}")

    def _descents(self) -> None:
        """A descent from every combination of the space's values; every design it tries takes part."""
        bits = self.config.layerwise
        bases = unique(self.design(settings) for settings in grid(self.config.space))
        self.asker.train(bases)
        for base in bases:
            if why := self.asker.training_error(base):
                raise UserError(f"mode layerwise: {why}")
        found = self.asker.ask("descend", bases)
        knobs: list[list[Knob]] = []
        for base in bases:
            record = found.get(base.key)
            if record is None:
                raise NotComputed
            if record.error:
                raise UserError(f"mode layerwise: {record.error}")
            knobs.append(knobs_of(record.value["layers"], record.value["relus"], bits))

        def judge(asked: Sequence[tuple[int, Bits]]) -> list[Tried | None]:
            return self._tried([dict(bases[n].settings) | _settings(knobs[n], widths) for n, widths in asked])

        wide = {"weight_bits": bits.from_bits, "activation_bits": bits.activations_from}
        starts = [tuple(wide[knob.key.rpartition(".")[2]] for knob in own) for own in knobs]
        descend(knobs, starts, judge)

    def _tried(self, asked: Sequence[dict[str, Choice]]) -> list[Tried | None]:
        """Measure designs, and try the pool on them."""
        designs = [self.design(settings) for settings in asked]
        self._measure(unique(designs))
        points = [self.points[design.key] for design in designs]
        alive = [point for point in dict.fromkeys(points) if point.fallen is not None]  # a batch may ask one twice
        self.contest.seed(alive)
        self.contest.bound(alive)
        return [
            None
            if point.bound is None or point.error
            else Tried(point.bound, point.costs(self.config.costs), point.mean_delta_w or 0.0)
            for point in points
        ]

    def _objectives(self, asked: Sequence[dict[str, Choice]]) -> list[tuple[float, ...] | None]:
        """What optuna wants to know: accuracy under all that was tried, then the costs."""
        return [None if found is None else (found.accuracy, *map(float, found.costs)) for found in self._tried(asked)]

    def _measure(self, designs: list[DesignPoint]) -> None:
        """Train, build, cost."""
        new = [design for design in designs if design.key not in self.points]
        for design in new:
            self.points[design.key] = Point(design)
        self.asker.train(new)
        points = [self.points[design.key] for design in new]
        for point in points:
            point.error = self.asker.training_error(point.design)
        self._answer("measure", [point for point in points if not point.error])
        for point in points:
            if point.measure is not None:
                fallen = unpack_mask(point.measure["fallen"], point.measure["exact_inputs"])
                point.take_over(fallen, "clean errors")

    def _finals(self, points: list[Point]) -> None:
        """Recommended designs first, then the fronts, as many as the config allows."""
        named = [item.point for item in recommendations(points, self.config)]
        for axis in self.config.costs:
            named += front([point for point in points if point.done], axis, lambda point: point.worst_accuracy)
        chosen = list({id(point): point for point in named}.values())
        chosen = chosen[: self.config.final.designs]
        self._answer("final", chosen)
        self._replicate([point for point in chosen if point.final])

    def _replicate(self, chosen: list[Point]) -> None:
        """The chosen designs again with other seeds: another split, another training, other attacks."""
        seeds = self.config.final.seeds
        again = {id(p): [self.design(dict(p.design.settings) | {"seed": seed}) for seed in seeds] for p in chosen}
        designs = unique(design for group in again.values() for design in group)
        self.asker.train(designs)
        able = [design for design in designs if not self.asker.training_error(design)]
        found = self.asker.ask("replicate", able)
        for point in chosen:
            others = [found[d.key] for d in again[id(point)] if d.key in found and d.key != point.design.key]
            point.replicates = [float(item.value["worst"]["accuracy"]) for item in others if not item.error]

    def _answer(self, stage: str, points: list[Point]) -> None:
        """Ask a stage of some points and note the answers on them."""
        found = self.asker.ask(stage, [point.design for point in points])
        for point in points:
            record = found.get(point.design.key)
            if record is not None and record.error:
                point.error = f"{TITLES[stage]}: {record.error}"
            elif record is not None:
                setattr(point, stage, record.value)
        self.asker.note = self._best()

    def _best(self) -> str:
        """The best so far, in words."""
        known = [(value, point) for point in self.points.values() if (value := point.worst_accuracy) is not None]
        if not known:
            return ""
        accuracy, best = max(known, key=lambda item: item[0])
        return f"best {100 * accuracy:.1f} % worst case, {best.cost('weight_bits'):,} weight bits"


def _settings(knobs: Sequence[Knob], bits: Bits) -> dict[str, Choice]:
    return {knob.key: width for knob, width in zip(knobs, bits, strict=True)}
