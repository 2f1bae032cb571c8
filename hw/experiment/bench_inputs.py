"""Which inputs of a run go into the HLS project's test bench, and the outputs that belong to them.

The outputs are the QKeras model's. The exactness gate holds it against csim and bitsim; the vendor's C simulation and
RTL cosimulation are held against it by the test bench.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import Cell, attacked_images, cell_path, cells, load_result
from hw.experiment.run import Run
from hw.generate.testbench import Origin, TestBench, select
from hw.simulate.exactness import EXTREMES, probe_images
from qmodels.attacks import AttackResult
from qmodels.storage import finite_or_none
from qmodels.victims import Images


def clean_bench(run: Run) -> TestBench:
    """Clean test images and extreme inputs: what there is before any attack."""
    return _bench(run, *_clean(run))


def full_bench(run: Run) -> TestBench:
    """The clean ones, and examples of every stored attack in turn, those that fooled their model first."""
    images, origins = _clean(run)
    _, labels = attacked_images(run)
    attacked = [(cell, result) for cell in cells(run) for result in [load_result(cell_path(run, cell))] if result]
    orders = [_fooling_first(result) for _, result in attacked]
    chosen = select([len(order) for order in orders], run.config.testbench.adversarial)
    for group, place in chosen:
        cell, result = attacked[group]
        index = int(orders[group][place])
        origins.append(_origin(cell, index, int(labels[index])))
        images = np.concatenate([images, result.x[index : index + 1]])
    return _bench(run, images, origins)


def _clean(run: Run) -> tuple[Images, list[Origin]]:
    part = run.data.test.take(run.config.testbench.clean)
    images = probe_images(run.data.input_shape, part.x, 0, run.config.seed)
    origins = [Origin("clean", index, int(label)) for index, label in enumerate(part.y)]
    return images, origins + [Origin("extreme")] * EXTREMES


def _fooling_first(result: AttackResult) -> NDArray[np.intp]:
    order: NDArray[np.intp] = np.argsort(~result.success, kind="stable")
    return order


def _origin(cell: Cell, index: int, label: int) -> Origin:
    source = f"{cell.source.label}/{cell.source.victim.name}"
    return Origin("adversarial", index, label, cell.attack.label, finite_or_none(cell.epsilon_lsb), source)


def _bench(run: Run, images: Images, origins: list[Origin]) -> TestBench:
    return TestBench(images, run.quantized.logits(images), tuple(origins))
