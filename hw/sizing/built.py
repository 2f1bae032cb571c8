"""A design, built: the accelerator's bits, its cost, its distance from the float model, and what attacks need of it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.accelerator import Accelerator
from hw.cost import Cost, estimate_cost
from hw.experiment.config import RunConfig
from hw.experiment.folder import RunFolder
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.run import Run
from hw.generate.codes import KERNELS, Codebook, choose_codebooks
from hw.simulate.bitsim import BitSim
from hw.sizing.gradients import GradientState
from hw.sizing.space import BUILDING
from hw.sizing.structures import Mapped, Structure, Structures, can_share
from qmodels.data import Dataset
from qmodels.grid import Codes
from qmodels.metrics.lipschitz import kernel_differences, reshaped_norms
from qmodels.victims import Logits, Victim


@dataclass
class Built:
    """One design, ready to be measured and attacked."""

    accelerator: Victim
    gradients: GradientState
    cost: Cost
    bits: dict[str, int]  # weight bits in hardware, by layer
    delta_w: dict[str, float]  # reshaped ||Q(W) - W||_2, by layer; empty for the user's own QKeras model
    quantized_logits: Logits | None  # of the QKeras model, on the images `build` was given; None: there is none


@contextlib.contextmanager
def scratch_run(config: RunConfig, data: Dataset, files: Mapping[str, bytes]) -> Iterator[Run]:
    """The flow's run of a design, trained already, brought as far as its quantized model; gone afterwards.

    Args:
        config: the design's experiment.
        data: its images.
        files: what its training step left, by name.
    """
    with tempfile.TemporaryDirectory(prefix="robust-hls-size-") as folder:
        run = Run(config, RunFolder(Path(folder)))
        run.data = data
        run.folder.claim()
        for name, content in files.items():
            (run.folder / name).write_bytes(content)
        for step in MODEL_STEPS:
            if step.name in BUILDING:
                step.action(run)
        yield run


def build(
    config: RunConfig, name: str, data: Dataset, files: Mapping[str, bytes], probes: Codes, structures: Structures
) -> Built:
    """Build a design: from its structure's graph where that is possible, else by a conversion of its own.

    Args:
        config, data, files: as for `scratch_run`.
        name: of the training.
        probes: images on which a QKeras model's own outputs are noted, to hold the simulator against.
        structures: what the worker has so far.
    """
    if can_share(config, files):
        mapped = structures.mapped(config, name, files, data)
        structure = structures.of(config, mapped, data)
        if structure is not None:
            return _swapped(config, mapped, structure, data)
    return build_converted(config, data, files, probes)


def _swapped(config: RunConfig, mapped: Mapped, structure: Structure, data: Dataset) -> Built:
    rounded = mapped.many.round(config.quantization)
    structure.put(rounded)
    graph = structure.graph.graph
    codebooks = choose_codebooks(graph, config.hardware)
    simulator = BitSim.from_graph(graph)
    simulator.threads, simulator.grid = 1, data.grid
    return Built(
        simulator,
        structure.gradients.swapped(rounded),
        estimate_cost(graph, codebooks),
        weight_widths(graph, codebooks),
        {name: layer.delta_w for name, layer in rounded.layers.items()},
        None,
    )


def build_converted(config: RunConfig, data: Dataset, files: Mapping[str, bytes], probes: Codes) -> Built:
    """Build a design by a conversion of its own; arguments as for `build`."""
    with scratch_run(config, data, files) as run:
        engine = config.simulation.engine
        # One thread: the other processors are other workers'.
        accelerator = Accelerator(run.quantized_model, config.hardware, grid=data.grid, engine=engine, threads=1)
        graph, codebooks, mapped = accelerator.graph, accelerator.codebooks, run.mapped_model
        values = data.grid.to_values(probes)
        return Built(
            accelerator.engine,  # without the model and the graph: a worker keeps many designs
            GradientState(run.quantized_model, data.grid),
            estimate_cost(graph, codebooks),
            weight_widths(graph, codebooks),
            delta_norms(mapped, run.quantized_model) if mapped is not None else {},
            np.asarray(run.quantized_model(values, training=False), np.float32),  # eager: tracing costs more
        )


def weight_widths(graph: Any, codebooks: Mapping[str, Codebook]) -> dict[str, int]:
    """Bits of a weight as stored, by layer of an hls4ml graph."""
    found = {}
    for layer in graph.get_layers():
        for kernel in (layer.weights[name] for name in KERNELS if name in layer.weights):
            book = codebooks.get(kernel.name)
            found[str(layer.name)] = int(kernel.type.precision.width) if book is None else book.bits
    return found


def delta_norms(model: Any, quantized: Any) -> dict[str, float]:
    """Reshaped ||Q(W) - W||_2 of each layer's kernel."""
    return {layer.name: reshaped_norms(layer, kernel).two for layer, kernel in kernel_differences(model, quantized)}
