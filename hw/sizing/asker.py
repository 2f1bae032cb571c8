"""Asks the workers what the store cannot answer yet, and keeps what they say; models are trained and shared here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.experiment.run import load_run_data
from hw.sizing.config import SizingConfig
from hw.sizing.crew import Crew, Job, JobOutcome, SoloCrew
from hw.sizing.questions import Question, stage_key
from hw.sizing.shapes import SHAPES
from hw.sizing.space import DesignPoint
from hw.sizing.stages import MODEL_FILE, STAGES
from hw.sizing.store import Answer, Store
from qmodels.data import Dataset
from qmodels.progress import progress_bar
from qmodels.shapes import check_shape
from qmodels.storage import write_bytes

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
KEYS: dict[str, Callable[[DesignPoint], str]] = {
    "train": lambda design: design.training_key,
    "aware": lambda design: design.model_key,
}


class Asker:
    """Answers by stage and design: from the store, else from the crew."""

    def __init__(
        self, config: SizingConfig, folder: Path, store: Store, crew: Crew | None, data_dir: Path | None = None
    ) -> None:
        """`crew` None: nothing is computed; what the store has is what there is."""
        self.config, self.folder, self.store, self.crew, self.data_dir = config, folder, store, crew, data_dir
        self.note = ""  # beside the progress bar
        self.used: dict[str, Answer] = {}  # every record that was found or made
        self._data: dict[str, Dataset] = {}
        self._trained: set[str] = set()
        self._failed: dict[str, str] = {}  # model key -> why its training failed

    def ask(self, stage: str, designs: Sequence[DesignPoint]) -> dict[str, Answer]:
        """Records by the designs' keys."""
        return self._collect(stage, {design.key: (self._key(stage, design), design) for design in designs})

    def train(self, designs: Sequence[DesignPoint]) -> None:
        """Train what is not trained yet, and share the models with the crew."""
        self._train_step("train", designs)
        self._train_step("aware", [design for design in designs if design.is_aware])

    def training_error(self, design: DesignPoint) -> str:
        """Why a design has no model; empty when it has one."""
        return self._failed.get(design.training_key) or self._failed.get(design.model_key, "")

    def _collect(self, stage: str, wanted: Mapping[str, tuple[str, DesignPoint]]) -> dict[str, Answer]:
        found = {name: record for name, (key, _) in wanted.items() if (record := self._stored(stage, key)) is not None}
        self.used |= {record.key: record for record in found.values()}
        missing = {key: (name, design) for name, (key, design) in wanted.items() if name not in found}
        if self.crew is None or not missing:
            return found
        live = not isinstance(self.crew, SoloCrew)
        with progress_bar(TITLES[stage], len(wanted), done=len(found), note=self.note, lines=True, live=live) as bar:
            for key, (_, design) in missing.items():
                self.crew.submit(self._job(stage, key, design))
            while outcomes := self.crew.wait():
                for outcome in outcomes:
                    name, design = missing[outcome.key]
                    found[name] = self._keep(stage, design, outcome)
                    bar.advance()
        return found

    def _stored(self, stage: str, key: str) -> Answer | None:
        """What the store knows; UserError for an answer that somebody changed into something else."""
        record = self.store.find(key)
        if record is not None and not record.error:
            check_shape(SHAPES[stage], record.value, f"{self.store.path}: {record.title}, {stage}:")
        return record

    def _keep(self, stage: str, design: DesignPoint, outcome: JobOutcome) -> Answer:
        value = outcome.value if outcome.error is None else {}
        if stage in KEYS and outcome.error is None:
            value = self._keep_training(self._training_folder(KEYS[stage](design)), value)
        elif MODEL_FILE in value:
            write_bytes(self.folder / "designs" / design.key / MODEL_FILE, value.pop(MODEL_FILE))
        record = Answer(outcome.key, stage, design.title(), value, outcome.error, outcome.seconds, outcome.worker)
        self.store.record(record)
        self.used[record.key] = record
        return record

    def _job(self, stage: str, key: str, design: DesignPoint) -> Job:
        assert self.crew is not None
        model = design.training_key if stage == "aware" else design.model_key
        data, training = f"data {design.data_key}", f"training {model}"
        self.crew.share(data, self._packed(design))
        question = Question(
            design.config.float_config if stage == "train" else design.config,
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

    def _train_step(self, stage: str, designs: Sequence[DesignPoint]) -> None:
        key_of = KEYS[stage]
        able = [design for design in designs if not self.training_error(design)]
        wanted = {key_of(design): design for design in able if key_of(design) not in self._trained}
        for key, design in wanted.items():
            self._forget_lost(stage, design, self._training_folder(key))
            if self.crew is not None:
                self._training_folder(key).mkdir(parents=True, exist_ok=True)
        found = self._collect(stage, {key: (self._key(stage, d), d) for key, d in wanted.items()})
        for key, record in found.items():
            if record.error:
                self._failed[key] = f"{TITLES[stage]}: {record.error}"
                continue
            self._trained.add(key)
            if self.crew is not None:
                files = {name: (self._training_folder(key) / name).read_bytes() for name in record.value["files"]}
                self.crew.share(f"training {key}", files)

    def _training_folder(self, key: str) -> Path:
        return self.folder / "trainings" / key

    def _forget_lost(self, stage: str, design: DesignPoint, folder: Path) -> None:
        """A training whose files are gone is not done."""
        key = self._key(stage, design)
        record = self._stored(stage, key)
        if record is not None and not record.error:
            if not all((folder / name).is_file() for name in record.value["files"]):
                self.store.forget(key)

    def _keep_training(self, folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
        for name, content in files.items():
            write_bytes(folder / name, content)
        return {"files": sorted(files)}

    def _key(self, stage: str, design: DesignPoint) -> str:
        return stage_key(stage, design, self.config, self._packed(design).digest)

    def _packed(self, design: DesignPoint) -> Dataset:
        if design.data_key not in self._data:
            self._data[design.data_key] = load_run_data(design.config, self.data_dir)
        return self._data[design.data_key]
