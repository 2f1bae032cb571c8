"""Asks the workers what the store cannot answer yet, and keeps what they say; models are trained and shared here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.experiment.run import load_run_data
from hw.sizing.config import SizingConfig
from hw.sizing.crew import Crew, Job, JobOutcome, SoloCrew, attempt_all
from hw.sizing.pool import Examples
from hw.sizing.questions import NOTHING, Keys, Question, Standing, pool_name
from hw.sizing.shapes import SHAPES
from hw.sizing.space import DesignPoint
from hw.sizing.stages import EXAMPLES, MODEL_FILE, STAGES
from hw.sizing.store import Answer, Store
from qmodels.data import Dataset
from qmodels.errors import UserError
from qmodels.progress import progress_bar
from qmodels.shapes import check_shape
from qmodels.storage import write_bytes

TITLES = {
    "train": "training",
    "aware": "training through the quantizers",
    "descend": "layers",
    "measure": "building designs",
    "certify": "certificates",
    "pool": "examples of other designs",
    "attack": "worst case",
    "final": "test images and gate",
    "replicate": "other seeds",
}


#: Stages that train, and what tells their models apart.
KEYS: dict[str, Callable[[DesignPoint], str]] = {
    "train": lambda design: design.training_key,
    "aware": lambda design: design.model_key,
}
#: How many designs a worker is given at once where a stage takes milliseconds.
TOGETHER = {"measure": 32, "certify": 32, "pool": 32}


@dataclass(frozen=True)
class _Asked:
    """One question, before it is put into words."""

    stage: str
    design: DesignPoint
    standing: Standing = NOTHING


def _together(jobs: tuple[Job, ...]) -> Job:
    needs = tuple(dict.fromkeys(name for job in jobs for name in job.needs))
    return Job(f"{jobs[0].key}+{len(jobs)}", attempt_all, jobs, needs, jobs[0].near)


class Asker:
    """Answers by stage and design: from the store, else from the crew."""

    def __init__(
        self, config: SizingConfig, folder: Path, store: Store, crew: Crew | None, data_dir: Path | None = None
    ) -> None:
        """`crew` None: nothing is computed; what the store has is what there is."""
        self.config, self.folder, self.store, self.crew, self.data_dir = config, folder, store, crew, data_dir
        self._keys = Keys(config)
        self.note = ""  # beside the progress bar
        self.used: dict[str, Answer] = {}  # every record that was found or made
        self._data: dict[str, Dataset] = {}
        self._digests: dict[str, str] = {}
        self._trained: set[str] = set()
        self._failed: dict[str, str] = {}  # model key -> why its training failed

    def ask(
        self, stage: str, designs: Sequence[DesignPoint], standing: Mapping[str, Standing] | None = None
    ) -> dict[str, Answer]:
        """Records by the designs' keys; `standing`, by these too, for stages that ask for it."""
        found = standing or {}
        wanted = {}
        for design in designs:
            asked = _Asked(stage, design, found.get(design.key, NOTHING))
            wanted[design.key] = self._key(asked), asked
        return self._collect(wanted, stage)

    def examples(self, record: Answer) -> Examples | None:
        """The adversarial examples that an answer brought.

        Raises:
            UserError: they are gone, or are not what was kept.
        """
        if not record.value.get("fell"):
            return None
        content = self.store.examples(record.key)
        try:
            return Examples.unpack(content or b"")
        except ValueError as error:
            told = f"{self.store.path}: {record.title}: {error}"
            raise UserError(f"{told}; move the store away, and everything is computed again") from None

    def share_examples(self, examples: Examples) -> None:
        """Make a generation of the pool known to the crew."""
        if self.crew is not None:
            self.crew.share(pool_name(examples.digest), examples)

    def train(self, designs: Sequence[DesignPoint]) -> None:
        """Train what is not trained yet, and share the models with the crew."""
        self._train_step("train", designs)
        self._train_step("aware", [design for design in designs if design.is_aware])

    def training_error(self, design: DesignPoint) -> str:
        """Why a design has no model; empty when it has one."""
        return self._failed.get(design.training_key) or self._failed.get(design.model_key, "")

    def _collect(self, wanted: Mapping[str, tuple[str, _Asked]], stage: str) -> dict[str, Answer]:
        found = {name: record for name, (key, _) in wanted.items() if (record := self._stored(stage, key)) is not None}
        self.used |= {record.key: record for record in found.values()}
        missing = {key: (name, asked) for name, (key, asked) in wanted.items() if name not in found}
        if self.crew is None or not missing:
            return found
        live = not isinstance(self.crew, SoloCrew)
        with progress_bar(TITLES[stage], len(wanted), done=len(found), note=self.note, lines=True, live=live) as bar:
            batches = self._batches([self._job(key, asked) for key, (_, asked) in missing.items()], stage)
            for job in batches.values():
                self.crew.submit(job)
            while outcomes := self.crew.wait():
                ended = [single for outcome in outcomes for single in self._unpacked(outcome, batches)]
                for outcome, record in zip(ended, self._keep_all(missing, ended), strict=True):
                    found[missing[outcome.key][0]] = record
                    bar.advance()
        return found

    def _batches(self, jobs: Sequence[Job], stage: str) -> dict[str, Job]:
        """Jobs as they are submitted, by key: small ones together."""
        size = TOGETHER.get(stage, 1)
        if size > 1 and self.crew is not None:  # all workers have some
            size = max(1, min(size, -(-len(jobs) // (4 * getattr(self.crew, "size", 1)))))
        if size == 1:
            return {job.key: job for job in jobs}
        parts = [tuple(jobs[first : first + size]) for first in range(0, len(jobs), size)]
        return {f"{part[0].key}+{len(part)}": _together(part) for part in parts}

    def _unpacked(self, outcome: JobOutcome, batches: Mapping[str, Job]) -> list[JobOutcome]:
        """The single outcomes of what was submitted; what lost its worker as a batch is tried one by one."""
        job = batches.get(outcome.key)
        if job is None or job.function is not attempt_all:
            return [outcome]
        if outcome.error is None:
            return list(outcome.value)
        assert self.crew is not None
        for single in job.argument:
            self.crew.submit(single)
        return []

    def _stored(self, stage: str, key: str) -> Answer | None:
        """What the store knows; UserError for an answer that somebody changed into something else."""
        record = self.store.find(key)
        if record is not None and not record.error:
            check_shape(SHAPES[stage], record.value, f"{self.store.path}: {record.title}, {stage}:")
        return record

    def _keep_all(self, missing: Mapping[str, tuple[str, _Asked]], ended: Sequence[JobOutcome]) -> list[Answer]:
        """Records of what ended, kept in one transaction with the examples that came along."""
        records, examples = [], {}
        for outcome in ended:
            asked = missing[outcome.key][1]
            value = outcome.value if outcome.error is None else {}
            if asked.stage in KEYS and outcome.error is None:
                value = self._keep_training(self._training_folder(KEYS[asked.stage](asked.design)), value)
            elif MODEL_FILE in value:
                write_bytes(self.folder / "designs" / asked.design.key / MODEL_FILE, value.pop(MODEL_FILE))
            if content := value.pop(EXAMPLES, b""):
                examples[outcome.key] = content
            title, seconds = asked.design.title(), outcome.seconds
            records.append(Answer(outcome.key, asked.stage, title, value, outcome.error, seconds, outcome.worker))
        if records:
            self.store.record(*records, examples=examples)
        self.used |= {record.key: record for record in records}
        return records

    def _job(self, key: str, asked: _Asked) -> Job:
        assert self.crew is not None
        stage, design = asked.stage, asked.design
        model = design.training_key if stage == "aware" else design.model_key
        data, training = f"data {design.data_key}", f"training {model}"
        self.crew.share(data, self._packed(design))
        question = Question(
            design.config.float_config if stage == "train" else design.config,
            design.key,
            data,
            training,
            self.config.worst_case,
            self.config.final,
            self.config.layerwise,
            str(self._training_folder(KEYS[stage](design)).resolve()) if stage in KEYS else "",
            asked.standing,
        )
        needs = (data,) if stage == "train" else (data, training, *map(pool_name, asked.standing.pool))
        near = design.training_key if stage in ("train", *TOGETHER) else design.key
        return Job(key, STAGES[stage], question, needs, near)

    def _train_step(self, stage: str, designs: Sequence[DesignPoint]) -> None:
        key_of = KEYS[stage]
        able = [design for design in designs if not self.training_error(design)]
        wanted = {key_of(design): design for design in able if key_of(design) not in self._trained}
        for key, design in wanted.items():
            self._forget_lost(stage, design, self._training_folder(key))
            if self.crew is not None:
                self._training_folder(key).mkdir(parents=True, exist_ok=True)
        asked = {key: _Asked(stage, design) for key, design in wanted.items()}
        found = self._collect({key: (self._key(item), item) for key, item in asked.items()}, stage)
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
        key = self._key(_Asked(stage, design))
        record = self._stored(stage, key)
        if record is not None and not record.error:
            if not all((folder / name).is_file() for name in record.value["files"]):
                self.store.forget(key)

    def _keep_training(self, folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
        for name, content in files.items():
            write_bytes(folder / name, content)
        return {"files": sorted(files)}

    def _key(self, asked: _Asked) -> str:
        return self._keys.of(asked.stage, asked.design, self._digest(asked.design), asked.standing)

    def _digest(self, design: DesignPoint) -> str:
        if design.data_key not in self._digests:
            self._digests[design.data_key] = self._packed(design).digest
        return self._digests[design.data_key]

    def _packed(self, design: DesignPoint) -> Dataset:
        if design.data_key not in self._data:
            self._data[design.data_key] = load_run_data(design.config, self.data_dir)
        return self._data[design.data_key]
