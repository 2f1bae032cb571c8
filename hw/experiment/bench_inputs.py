"""Which inputs of a run go into the HLS project's test bench, and the outputs that belong to them.

The outputs are the QKeras model's, which the exactness gate holds against csim and bitsim, or the accelerator's own
where the model may differ. The vendor's C simulation and RTL cosimulation are held against them by the test bench.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import AttackJob, attack_jobs, attacked_images, job_path, load_result
from hw.experiment.run import Run
from hw.generate.testbench import Origin, TestBench, select
from hw.simulate.exactness import probe_inputs
from qmodels.attacks import AttackResult
from qmodels.grid import EXTREMES, Codes
from qmodels.storage import finite_or_none


def clean_bench(run: Run) -> TestBench:
    """Clean test images and extreme inputs: what there is before any attack."""
    return _bench(run, *_clean(run))


def full_bench(run: Run) -> TestBench:
    """The clean ones, and examples of every stored attack in turn, those that fooled their model first."""
    images, origins = _clean(run)
    labels = attacked_images(run).y
    attacked = [(job, result) for job in attack_jobs(run) for result in [load_result(job_path(run, job))] if result]
    orders = [_fooling_first(result) for _, result in attacked]
    chosen = select([len(order) for order in orders], run.config.testbench.adversarial)
    for group, place in chosen:
        job, result = attacked[group]
        index = int(orders[group][place])
        origins.append(_origin(job, int(run.attackable[index]), _label(labels[index])))
        images = np.concatenate([images, _shown(job, result.x[index : index + 1])])
    return _bench(run, images, origins)


def _clean(run: Run) -> tuple[Codes, list[Origin]]:
    part = run.data.test.take(run.config.testbench.clean)
    images = probe_inputs(run.data.grid, part.x, 0, run.config.seed)
    origins = [Origin("clean", index, _label(label)) for index, label in enumerate(part.y)]
    return images, origins + [Origin("extreme")] * EXTREMES


def _fooling_first(result: AttackResult) -> NDArray[np.intp]:
    order: NDArray[np.intp] = np.argsort(~result.success, kind="stable")
    return order


def _label(target: Any) -> int | None:
    """The class, or the mark of an anomaly; None for a regression."""
    return int(target) if np.issubdtype(np.asarray(target).dtype, np.integer) else None


def _shown(job: AttackJob, x: Codes) -> Codes:
    """What the device sees of an example."""
    return x if job.source.defence is None else job.source.defence.device_inputs(x)[0]


def _origin(job: AttackJob, index: int, label: int | None) -> Origin:
    source = f"{job.source.label}/{job.source.victim.name}"
    return Origin("adversarial", index, label, job.label, finite_or_none(job.epsilon_lsb), source)


def _bench(run: Run, images: Codes, origins: list[Origin]) -> TestBench:
    truth = run.quantized if run.exactness == "required" else run.accelerator
    return TestBench(images, truth.logits(images), tuple(origins), run.hardware_grid)
