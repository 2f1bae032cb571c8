"""Runs steps in order. Which ones there are is not known here: `steps.py` has them, and `hw/report/step.py` the last.

Each step has named outputs in the run folder. A step is skipped when its inputs (by digest) have not changed and
its outputs are untouched; a run that is stopped goes on in the step it was in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from time import perf_counter
from typing import Any

from hw.experiment.config import dump_config
from hw.experiment.environment import environment
from hw.experiment.run import Run
from qmodels.digest import digest_of, file_digest
from qmodels.loading import weights_file
from qmodels.storage import write_bytes, write_json

Say = Callable[[str], None]


@dataclass(frozen=True)
class FlowStep:
    """One named step: what it reads of the config (sections, dotted keys), what it builds on, leaves and does."""

    name: str
    sections: tuple[str, ...]
    after: tuple[str, ...]
    action: Callable[[Run], tuple[str, ...]]  # does the work, returns the names of its output files


def run_steps(run: Run, steps: Sequence[FlowStep], say: Say) -> None:
    """Run the steps that are not done yet.

    Args:
        run: config and folder; the folder must be locked by the caller.
        steps: in order, each after those that it builds on.
        say: told one line per step.
    """
    describe(run)
    for note in run.data.inputs.notes:
        say(f"data {run.data.name}: {note}")
    for number, step in enumerate(steps, start=1):
        key = step_key(run, step)
        if run.folder.is_done(step.name, key):
            say(f"[{number}/{len(steps)}] {step.name}: done before, nothing changed")
            continue
        say(f"[{number}/{len(steps)}] {step.name}")
        started = perf_counter()
        outputs = step.action(run)
        run.folder.mark_done(step.name, key, outputs, perf_counter() - started)


def describe(run: Run) -> None:
    """Write the resolved config, the environment, and how the user's numbers became codes."""
    write_bytes(run.folder / "config.yaml", dump_config(run.config).encode())
    write_json(run.folder / "environment.json", environment(run.config.seed))
    if not run.data.inputs.plain:
        write_json(run.folder / "input.json", run.data.describe())


def step_key(run: Run, step: FlowStep) -> str:
    """Digest of all that a step depends on."""
    config = run.config.model_dump(mode="json")
    parts: dict[str, Any] = {
        "seed": run.config.seed,
        "config": {section: reduce(dict.__getitem__, section.split("."), config) for section in step.sections},
        "inputs": {name: run.folder.outputs(name) for name in step.after},
    }
    if "model" in step.sections and run.config.model.file is not None:
        weights = weights_file(run.config.model.file, run.config.model.weights) if run.has_model else None
        parts["as_it_is"] = run.brings_hardware
        parts["model"] = [file_digest(path) for path in (run.config.model.file, weights) if path is not None]
    if "data" in step.sections:
        parts["data"] = run.data.digest
    return digest_of(parts)


def steps_until(name: str, steps: Sequence[FlowStep]) -> tuple[FlowStep, ...]:
    """The steps up to and including `name`."""
    names = [step.name for step in steps]
    return tuple(steps[: names.index(name) + 1])
