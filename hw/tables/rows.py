"""The rows as ordinary runs in one folder: what they share is computed once, and each goes through the pipeline.

OUT/rows/<slug>/     a run folder each
OUT/attacks/         examples of all rows; their names hold the digest of all they depend on
OUT/black_box/       the attacker's own models
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hw.experiment.config import RunConfig
from hw.experiment.folder import RunFolder
from hw.experiment.pipeline import FlowStep, run_steps, step_key
from hw.experiment.run import Run
from hw.report.step import FLOW
from qmodels.data import Dataset
from qmodels.digest import digest_of
from qmodels.errors import UserError

SHARED = ("attacks", "black_box")
TRAININGS = tuple(step for step in FLOW if step.name in ("train", "aware"))


def row_runs(configs: Sequence[RunConfig], folder: Path, data_dir: Path | None) -> list[Run]:
    """The rows' runs; those of the same data share it. Nothing is written."""
    data: dict[str, Dataset] = {}
    runs = []
    for config in configs:
        run = Run(config, row_folder(config, folder), data_dir)
        key = digest_of([config.seed, config.data.model_dump(mode="json")])
        if key in data:
            run.data = data[key]
        data[key] = run.data
        runs.append(run)
    return runs


def row_folder(config: RunConfig, folder: Path) -> RunFolder:
    """Of one row, in the tables' folder."""
    return RunFolder(folder / "rows" / config.name)


def finish_row(run: Run, others: Sequence[Run], say: Callable[[str], None]) -> None:
    """Bring a row's run to its end; a training that another row has finished is taken over from there."""
    with run.folder.lock():
        _share(run.folder.path)
        for step in TRAININGS:
            _take_over(run, step, others, say)
        run_steps(run, FLOW, say)


def is_finished(run: Run) -> bool:
    """Whether the row's run has every step, as its config now asks for it."""
    return all(run.folder.is_done(step.name, step_key(run, step)) for step in FLOW)


def _take_over(run: Run, step: FlowStep, others: Sequence[Run], say: Callable[[str], None]) -> None:
    key = step_key(run, step)
    if run.folder.is_done(step.name, key):
        return
    for other in others:
        if other is run or not _same_training(run, other, step):
            continue
        if other.folder.outputs(step.name) and other.folder.is_done(step.name, step_key(other, step)):
            run.folder.adopt(step.name, key, other.folder)
            say(f"{step.name}: as in {other.folder.path.name}")
            return


def _same_training(run: Run, other: Run, step: FlowStep) -> bool:
    """Whether a training step asks the same of both; the float model does not depend on what comes after it."""
    if step.name == "aware" and run.folder.outputs("train") != other.folder.outputs("train"):
        return False
    configs = [item.config if step.name == "aware" else item.config.float_config for item in (run, other)]
    asked = [config.model_dump(mode="json", include={"seed", *step.sections}) for config in configs]
    return asked[0] == asked[1]


def _share(folder: Path) -> None:
    """Make the folders that all rows share appear inside the row's own."""
    for name in SHARED:
        (folder.parent.parent / name).mkdir(parents=True, exist_ok=True)
        link = folder / name
        if link.is_symlink():
            continue
        if link.exists():
            raise UserError(f"{link}: a row's examples are kept in {folder.parent.parent / name}; move this one away")
        link.symlink_to(Path("..", "..", name))
