"""What can be known to be wrong before any work: checked before the run folder is made, not after the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import FlowStep
from hw.experiment.run import Run
from hw.experiment.task import check_task, output_shape, task_kind
from hw.generate.contract import check_contract
from hw.tools.toolchain import GXX, require_tool
from qmodels.architectures import build_float
from qmodels.errors import UserError
from qmodels.layers import is_quantized, select_layers
from qmodels.quantize.model import check_layers, check_quantizable


def check_run(run: Run, steps: Sequence[FlowStep]) -> None:
    """Look at the data, the model, the choice of layers and the tools that `steps` will need.

    Raises:
        UserError: data, model and config do not fit together; nothing was written.
        ToolMissing: a new run will need g++ and there is none.
    """
    shape, classes = run.data.input_shape, run.data.classes
    check_task(run.config, run.data, run.own_model)
    if run.own_model is not None:
        _check_own(run)
    else:
        _check_float(run, build_float(run.config.model, shape, classes, run.config.seed))
    names = {step.name for step in steps}
    if "attack" in names:
        for model in run.black_box:
            check_run(model, MODEL_STEPS)
    compiles = "simulate" in names
    if compiles and not run.folder.exists():  # an older run may have its simulation in the cache
        require_tool(GXX)


def _check_own(run: Run) -> None:
    model = run.own_model
    kind = task_kind(run.config.task, run.data, model)
    expected, wanted = (None, *run.data.input_shape), output_shape(kind, run.data)
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
