"""What can be known to be wrong before any work: checked before the run folder is made, not after the training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import FlowStep
from hw.experiment.run import Run
from hw.generate.contract import check_contract
from hw.simulate.bitsim.kernels.library import forced_isa
from hw.tools.cache import check_cache
from hw.tools.toolchain import check_gxx, gxx_seconds
from qmodels.architectures import build_float
from qmodels.errors import UserError
from qmodels.layers import is_quantized, select_layers
from qmodels.quantize.model import check_layers, check_quantizable

_ROOM = 100 << 20  # bytes; a small run and its simulators


def check_run(run: Run, steps: Sequence[FlowStep]) -> None:
    """Look at the data, the model, the choice of layers and the tools that `steps` will need.

    Raises:
        UserError: data, model and config do not fit together; nothing was written.
        ToolMissing: a new run will need g++ and there is none.
    """
    shape, classes = run.data.input_shape, run.data.classes
    if run.own_model is not None:
        _check_own(run, shape, classes)
    else:
        _check_float(run, build_float(run.config.model, shape, classes, run.config.seed))
    names = {step.name for step in steps}
    if "attack" in names:
        for model in run.black_box:
            check_run(model, MODEL_STEPS)
    compiles = "simulate" in names
    if compiles:
        check_machine(run.folder.path, needs_gxx=not run.folder.exists())  # an older run may have all in the cache


def check_machine(folder: Path, *, needs_gxx: bool = True) -> None:
    """Look at the compiler, the cache, the instruction set that was asked for, and the room on the disks.

    Raises:
        UserError: one of them will not do.
        ToolMissing: g++ is missing, or fails on a line of C++.
    """
    forced_isa()
    gxx_seconds()
    for place in (check_cache(), folder):
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < _ROOM:
            raise UserError(f"{place}: {free >> 20} MB are free on its disk, {_ROOM >> 20} MB are needed; make room")
    if needs_gxx:
        check_gxx()


def _check_own(run: Run, shape: tuple[int, ...], classes: int) -> None:
    model = run.own_model
    expected, wanted = (None, *shape), (None, classes)
    if getattr(model, "input_shape", None) != expected or getattr(model, "output_shape", None) != wanted:
        raise UserError(
            f"{run.config.model.file}: takes {getattr(model, 'input_shape', None)} and gives "
            f"{getattr(model, 'output_shape', None)}; the data set {run.data.name!r} needs {expected} and {wanted}"
        )
    if is_quantized(model):
        check_contract(model, run.config.hardware.backend)
    else:
        _check_float(run, model)


def _check_float(run: Run, model: Any) -> None:
    check_quantizable(model)
    check_layers(model, run.config.quantization)
    if run.config.mapping.mu > 0:
        select_layers(model, run.config.mapping.layers)
