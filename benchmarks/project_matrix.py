"""The matrix of HLS projects: every model on every backend, io type and strategy, held against QKeras bit for bit.

Every finished cell is kept under the digest of its project, its number of inputs and the simulators' sources, so that
a stopped matrix goes on where it was and what has changed is run again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from helpers.models import BITS, SMALL, SMALL_BITS, Toolbox, grid_codes, grid_images, normalised

import hw
from hw.accelerator import Accelerator
from hw.generate.contract import contract
from hw.generate.hardware import Backend, HardwareConfig
from hw.generate.reuse import plan_layers
from qmodels.architectures import ModelConfig, build_float
from qmodels.digest import digest_of, file_digest
from qmodels.errors import RobustHlsError, UserError
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.model import quantize_model
from qmodels.storage import write_json

BACKENDS: tuple[Backend, ...] = ("Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult")
SOURCES = (".py", ".h", ".template", ".cpp")  # what bitsim is made of
WITH_BITSIM = ("Vitis", "Vivado", "VivadoAccelerator")
SAMPLES = 200
FULL_SIZE = {
    "resnet8": ModelConfig(architecture="resnet8"),
    "mobilenet_v1_025": ModelConfig(architecture="mobilenet_v1_025"),
    "wrn32": ModelConfig(architecture="wrn32", width=1),
}
FULL_SAMPLES = 8  # a csim that is compiled without optimization takes seconds for an image of these


@dataclass(frozen=True)
class Cell:
    """One project of the matrix."""

    name: str  # of the model
    config: HardwareConfig
    samples: int = SAMPLES

    @property
    def title(self) -> str:
        """`resnet8 Vitis io_stream latency`."""
        return f"{self.name} {self.config.backend} {self.config.io_type} {self.config.strategy}"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    digest: str = ""  # of all it depends on
    outputs: int = 0
    wrong: int = 0  # outputs of csim, and of bitsim where it knows the backend, that differ from QKeras
    refused: str = ""  # by the contract, before conversion
    failed: str = ""  # it should have worked


def models() -> dict[str, Any]:
    """On 8x8 images, as our flow quantizes them; batch-normalized ones with an eighth or a quarter of the filters."""
    toolbox = Toolbox()
    data = toolbox.data
    mlp = build_float(ModelConfig(architecture="mlp", hidden=(16,)), data.input_shape, data.classes, seed=0)
    plain = {"cnn4": toolbox.quantized.model, "mlp": quantize_model(mlp, BITS, data.train.values).model}
    folded = {name: quantize_model(normalised(config), SMALL_BITS, grid_images(200)) for name, config in SMALL.items()}
    return plain | {name: quantized.model for name, quantized in folded.items()}


def cells(quick: bool) -> Iterator[Cell]:
    """All cells, in a fixed order; quick: one strategy, two backends."""
    backends, strategies = (("Vitis", "Quartus"), ("latency",)) if quick else (BACKENDS, ("latency", "resource"))
    names = ("mlp", "cnn4") if quick else ("mlp", "cnn4", *SMALL)
    for name, *settings in itertools.product(names, backends, ("io_parallel", "io_stream"), strategies):
        keys = ("backend", "io_type", "strategy")
        yield Cell(name, HardwareConfig.model_validate(dict(zip(keys, settings, strict=True))))


def run_matrix(quick: bool, state: Path) -> Iterator[tuple[Cell, Outcome]]:
    """Every cell with its outcome; finished ones from `state`, a JSON file that grows with every new one."""
    known: dict[str, Any] = json.loads(state.read_text()) if state.exists() else {}
    made = models()
    for cell in cells(quick):
        yield cell, _kept(cell, made[cell.name], known, state)


def run_full_size(state: Path) -> Iterator[tuple[Cell, Outcome]]:
    """The batch-normalized networks as they are used: all filters, on 32x32 colour images."""
    known: dict[str, Any] = json.loads(state.read_text()) if state.exists() else {}
    shape = (32, 32, 3)
    for name, config in FULL_SIZE.items():
        model = quantize_model(normalised(config, shape), SMALL_BITS, grid_images(100, shape, seed=1)).model
        cell = Cell(f"{name} ({model.count_params():,} parameters)", HardwareConfig(io_type="io_stream"), FULL_SAMPLES)
        yield cell, _kept(cell, model, known, state)


def _kept(cell: Cell, model: Any, known: dict[str, Any], state: Path) -> Outcome:
    """The outcome of a cell, from `known` or computed now; `state` then has it too, unless it failed."""
    outcome = _run(cell, model, known.get(cell.title))
    if not outcome.failed:
        known[cell.title] = asdict(outcome)
        write_json(state, known)
    return outcome


def _run(cell: Cell, model: Any, known: dict[str, Any] | None) -> Outcome:
    if broken := contract(model, cell.config.backend):
        return Outcome(refused=str(broken[0]))
    try:
        plan_layers(model, cell.config)
    except UserError as error:
        return Outcome(refused=str(error))
    try:
        accelerator = Accelerator(model, cell.config)
        project = accelerator.project
        digest = digest_of([project.digest, cell.samples, _simulators()])
        if known is not None and known["digest"] == digest:
            return Outcome(**known)
        images = grid_codes(cell.samples, model.input_shape[1:])
        expected = model(IMAGE_GRID.to_values(images)).numpy()
        if len(np.unique(expected, axis=0)) <= cell.samples // 2:
            return Outcome(failed="the outputs hardly depend on the images: comparing them would mean little")
        victims = [accelerator.compile(optimize=False)]
        victims += [accelerator] if cell.config.backend in WITH_BITSIM else []
        wrong = sum(int(np.sum(victim.logits(images) != expected)) for victim in victims)
        return Outcome(digest, len(victims) * expected.size, wrong)
    except RobustHlsError as error:
        return Outcome(failed=str(error)[:500])


@cache
def _simulators() -> list[str]:
    """Digests of the sources of bitsim and of the C simulation's build."""
    package = Path(hw.__file__).parent
    bitsim = [path for path in (package / "simulate" / "bitsim").rglob("*") if path.suffix in SOURCES]
    return [
        file_digest(path) for path in sorted([*bitsim, package / "simulate" / "csim.py", package / "accelerator.py"])
    ]
