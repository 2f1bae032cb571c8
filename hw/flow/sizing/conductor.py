"""The run of a sizing: which questions are asked when, who answers, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from hw.flow.config import read_text
from hw.flow.sizing.config import Choice, SizingConfig
from hw.flow.sizing.crew import Crew, Job, Outcome
from hw.flow.sizing.modes import descent, layer_settings, search
from hw.flow.sizing.points import Point, Score, dearer_by_delta_w, front, may_be_on_a_front, near_front, recommendations
from hw.flow.sizing.progress import ProgressLine
from hw.flow.sizing.questions import PackedData, Question, stage_key
from hw.flow.sizing.space import Design, command, grid, make_design, unique
from hw.flow.sizing.stages import MODEL_FILE, STAGES
from hw.flow.sizing.store import Record, Store
from qmodels.data import load_dataset
from qmodels.errors import UserError
from qmodels.storage import write_bytes

EXPERIMENT = "experiment.yaml"  # in the sizing's folder
TITLES = {
    "train": "training",
    "aware": "training through the quantizers",
    "descend": "||ΔW|| by layer and bits",
    "measure": "building designs",
    "screen": "cheap attacks",
    "worst": "worst case",
    "final": "test images and gate",
}


#: Stages that train, and what tells their models apart.
KEYS: dict[str, Callable[[Design], str]] = {
    "train": lambda design: design.training_key,
    "aware": lambda design: design.model_key,
}


class Conductor:
    """Asks every question that the store cannot answer yet, stage by stage."""

    def __init__(
        self, config: SizingConfig, folder: Path, store: Store, crew: Crew | None, data_dir: Path | None = None
    ) -> None:
        """`crew` None: nothing is computed; what the store has is what there is."""
        self.config, self.folder, self.store, self.crew = config, folder, store, crew
        self.experiment = read_text(folder / EXPERIMENT)
        self.line = ProgressLine()
        self.seconds: dict[str, float] = {}
        self.points: dict[str, Point] = {}
        self.used: dict[str, Record] = {}  # every record that the points rest on
        self._data_dir = data_dir
        self._data: dict[str, PackedData] = {}
        self._trainings: set[str] = set()

    def run(self) -> list[Point]:
        """Every stage; the points with all that is known of them."""
        if self.config.mode == "search":
            search(self.config.space, len(self.config.costs), self.config.search, self._objectives)
        else:
            self._screen(self._designs())
        points = list(self.points.values())
        self._worst_cases(points)
        self._finals(points)
        self.line.end()
        return points

    def design(self, settings: Mapping[str, Choice]) -> Design:
        """The design of some settings of the space."""
        return make_design(self.experiment, str(self.folder / EXPERIMENT), settings)

    def command(self, design: Design) -> str:
        """The command that generates a design's HLS project from the model that was scored."""
        return command(design, self.folder, self._data_dir, f"{self.config.name[:50]}-{design.key[:8]}")

    def _designs(self) -> list[Design]:
        bases = unique(self.design(settings) for settings in grid(self.config.space))
        if self.config.mode == "grid":
            return bases
        self._train(bases)
        found = self._ask("descend", bases)
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

    def _screen(self, designs: list[Design]) -> None:
        """Train, measure, set aside by ||ΔW||, attack cheaply."""
        for design in designs:
            self.points.setdefault(design.key, Point(design))
        self._train(designs)
        points = [self.points[design.key] for design in designs]
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
            if self.crew is None:  # nothing can be asked: report what there is
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
        found = self._ask(stage, [point.design for point in points])
        for point in points:
            record = found.get(point.design.key)
            if record is not None and record.error:
                point.error = f"{TITLES[stage]}: {record.error}"
            elif record is not None:
                setattr(point, stage, record.value)
        self.line.best = self._best()

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

    def _ask(self, stage: str, designs: Sequence[Design]) -> dict[str, Record]:
        """Records by design; what the store does not have is computed."""
        return self._collect(stage, {design.key: (self._key(stage, design), design) for design in designs})

    def _collect(self, stage: str, wanted: Mapping[str, tuple[str, Design]]) -> dict[str, Record]:
        found = {name: record for name, (key, _) in wanted.items() if (record := self.store.find(key)) is not None}
        self.used |= {record.key: record for record in found.values()}
        missing = {key: (name, design) for name, (key, design) in wanted.items() if name not in found}
        if self.crew is None or not missing:
            return found
        started = perf_counter()
        self.line.begin(TITLES[stage], len(wanted), len(found))
        for key, (_, design) in missing.items():
            self.crew.submit(self._job(stage, key, design))
        while outcomes := self.crew.wait():
            for outcome in outcomes:
                name, design = missing[outcome.key]
                found[name] = self._keep(stage, design, outcome)
                self.line.advance()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started
        return found

    def _keep(self, stage: str, design: Design, outcome: Outcome) -> Record:
        value = outcome.value if outcome.error is None else {}
        if stage in KEYS and outcome.error is None:
            value = self._keep_training(self._training_folder(KEYS[stage](design)), value)
        elif MODEL_FILE in value:
            write_bytes(self.folder / "designs" / design.key / MODEL_FILE, value.pop(MODEL_FILE))
        record = Record(outcome.key, stage, design.title(), value, outcome.error, outcome.seconds, outcome.worker)
        self.store.record(record)
        self.used[record.key] = record
        return record

    def _job(self, stage: str, key: str, design: Design) -> Job:
        assert self.crew is not None
        model = design.training_key if stage == "aware" else design.model_key
        data, training = f"data {design.data_key}", f"training {model}"
        self.crew.share(data, self._packed(design))
        question = Question(
            design.float_config if stage == "train" else design.config,
            design.key,
            data,
            training,
            self.config.screening,
            self.config.worst_case,
            self.config.final.images,
            self.config.layerwise,
            str(self._training_folder(KEYS[stage](design)).resolve()) if stage in KEYS else "",
        )
        needs = (data,) if stage == "train" else (data, training)
        near = design.training_key if stage == "train" else design.key
        return Job(key, STAGES[stage], question, needs, near)

    def _train(self, designs: Sequence[Design]) -> None:
        """Train what is not trained yet, and share the models; designs whose training fails are marked."""
        self._train_step("train", designs)
        self._train_step("aware", [design for design in designs if design.is_aware])

    def _train_step(self, stage: str, designs: Sequence[Design]) -> None:
        key_of = KEYS[stage]
        able = [design for design in designs if not self._error_of(design)]
        wanted = {key_of(design): design for design in able if key_of(design) not in self._trainings}
        for key, design in wanted.items():
            self._forget_lost(stage, design, self._training_folder(key))
            if self.crew is not None:
                self._training_folder(key).mkdir(parents=True, exist_ok=True)
        found = self._collect(stage, {key: (self._key(stage, d), d) for key, d in wanted.items()})
        for key, record in found.items():
            if record.error:
                for point in self.points.values():
                    if key_of(point.design) == key:
                        point.error = f"{TITLES[stage]}: {record.error}"
                continue
            self._trainings.add(key)
            if self.crew is not None:
                files = {name: (self._training_folder(key) / name).read_bytes() for name in record.value["files"]}
                self.crew.share(f"training {key}", files)

    def _error_of(self, design: Design) -> str:
        return self.points[design.key].error if design.key in self.points else ""

    def _training_folder(self, key: str) -> Path:
        return self.folder / "trainings" / key

    def _forget_lost(self, stage: str, design: Design, folder: Path) -> None:
        """A training whose files are gone is not done."""
        key = self._key(stage, design)
        record = self.store.find(key)
        if record is not None and not record.error:
            if not all((folder / name).is_file() for name in record.value["files"]):
                self.store.forget(key)

    def _keep_training(self, folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
        for name, content in files.items():
            write_bytes(folder / name, content)
        return {"files": sorted(files)}

    def _key(self, stage: str, design: Design) -> str:
        return stage_key(stage, design, self.config, self._packed(design).digest)

    def _packed(self, design: Design) -> PackedData:
        if design.data_key not in self._data:
            wanted = design.config.data
            data = load_dataset(
                wanted.name,
                seed=design.config.seed,
                data_dir=self._data_dir,
                validation_share=wanted.validation_share,
                limit_train=wanted.limit_train,
                limit_test=wanted.limit_test,
            )
            self._data[design.data_key] = PackedData.pack(data)
        return self._data[design.data_key]
