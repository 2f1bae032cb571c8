"""The run of a sizing: which questions are asked of which designs, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hw.experiment.config import read_text
from hw.sizing.asker import TITLES, Asker
from hw.sizing.config import Choice, SizingConfig
from hw.sizing.crew import Crew
from hw.sizing.modes import descent, layer_settings, search
from hw.sizing.points import Point, Score, dearer_by_delta_w, front, may_be_on_a_front, near_front, recommendations
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

    def run(self) -> list[Point]:
        """Every stage; the points with all that is known of them."""
        if self.config.mode == "search":
            search(self.config.space, len(self.config.costs), self.config.search, self._objectives)
        else:
            self._screen(self._designs())
        points = list(self.points.values())
        self._worst_cases(points)
        self._finals(points)
        return points

    def design(self, settings: Mapping[str, Choice]) -> DesignPoint:
        """The design of some settings of the space."""
        return make_design(self.experiment, str(self.folder / EXPERIMENT), settings)

    def command(self, design: DesignPoint) -> str:
        """The command that generates a design's HLS project from the model that was scored."""
        return command(design, self.folder, self.asker.data_dir, f"{self.config.name[:50]}-{design.key[:8]}")

    def _designs(self) -> list[DesignPoint]:
        bases = unique(self.design(settings) for settings in grid(self.config.space))
        if self.config.mode == "grid":
            return bases
        self.asker.train(bases)
        for base in bases:
            if why := self.asker.training_error(base):
                raise UserError(f"mode layerwise: {why}")
        found = self.asker.ask("descend", bases)
        designs = []
        for base in bases:
            record = found.get(base.key)
            if record is None or record.error:
                raise UserError(f"mode layerwise: {record.error if record else 'not started'}")
            losses = record.value["losses"]
            by_layer = {layer: {int(b): losses[b][layer] for b in losses} for layer in record.value["sizes"]}
            for bits in descent(record.value["sizes"], by_layer, self.config.layerwise):
                designs.append(self.design(dict(base.settings) | layer_settings(bits)))
        return unique(designs)

    def _objectives(self, asked: Sequence[dict[str, Choice]]) -> list[tuple[float, ...] | None]:
        """What optuna wants to know: accuracy under the cheap attacks, then the costs."""
        designs = [self.design(settings) for settings in asked]
        self._screen(unique(designs))
        answers: list[tuple[float, ...] | None] = []
        for design in designs:
            point = self.points[design.key]
            accuracy = self._attacked(point)
            answers.append(None if accuracy is None else (accuracy, *map(float, point.costs(self.config.costs))))
        return answers

    def _screen(self, designs: list[DesignPoint]) -> None:
        """Train, measure, set aside by ||ΔW||, attack cheaply."""
        for design in designs:
            self.points.setdefault(design.key, Point(design))
        self.asker.train(designs)
        points = [self.points[design.key] for design in designs]
        for point in points:
            point.error = point.error or self.asker.training_error(point.design)
        self._answer("measure", [point for point in points if not point.error])
        measured = [point for point in points if point.measure]
        if self.config.mode != "search":
            for point in dearer_by_delta_w(measured, self.config.screening, self.config.costs):
                point.set_aside = "||ΔW||"
        self._answer("screen", [point for point in measured if not point.set_aside])

    def _worst_cases(self, points: list[Point]) -> None:
        """The worst case on designs near a front of the cheap attacks, then on those it shows to be hopeful still.

        A cheap attack may flatter a design (masked gradients) and so hide a better one: what the worst case leaves of
        the flattered ones decides, until no design set aside could be on a front.
        """
        screened = [point for point in points if point.screen]
        chosen = near_front(screened, self.config.costs, self.config.screening.near, self._attacked)
        if self.config.screening.off:
            chosen = screened
        while chosen:
            self._answer("worst", chosen)
            waiting = [point for point in screened if not point.worst and not point.error and point not in chosen]
            if self.asker.crew is None:  # nothing can be asked: report what there is
                self._answer("worst", waiting)
                break
            tested = [point for point in screened if point.worst]
            costs = self.config.costs
            chosen = may_be_on_a_front(waiting, tested, costs, self._attacked, lambda point: point.worst_accuracy)
        for point in screened:
            if not point.worst and not point.error:
                point.set_aside = "far from every front"

    def _attacked(self, point: Point) -> float | None:
        """Accuracy under the cheap attacks: an upper bound of the worst case, but for the number of images."""
        return point.screened(self.config.worst_case.epsilon_lsb)

    def _finals(self, points: list[Point]) -> None:
        """Recommended designs first, then the fronts, as many as the config allows."""
        named = [item.point for item in recommendations(points, self.config)]
        for axis in self.config.costs:
            named += front([point for point in points if point.worst], axis, lambda point: point.worst_accuracy)
        chosen = list({id(point): point for point in named}.values())
        self._answer("final", chosen[: self.config.final.designs])

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
        """The best so far, in words: by worst case where it is known, else by the cheap attacks."""
        scores: tuple[tuple[str, Score], ...] = (
            ("worst case", lambda point: point.worst_accuracy),
            ("attacked", self._attacked),
        )
        for kind, score in scores:
            known = [(value, point) for point in self.points.values() if (value := score(point)) is not None]
            if known:
                accuracy, best = max(known, key=lambda item: item[0])
                return f"best {100 * accuracy:.1f} % {kind}, {best.cost('weight_bits'):,} weight bits"
        return ""
