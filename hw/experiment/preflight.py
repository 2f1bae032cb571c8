"""What can be known to be wrong before any work: checked before the run folder is made, not after the training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from hw.experiment.certificates import check_certifiable
from hw.experiment.defence import check_defence
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import FlowStep, step_key
from hw.experiment.plan import default_plan
from hw.experiment.radius import plan_radii
from hw.experiment.run import Run
from hw.experiment.task import check_task, output_shape, task_kind
from hw.generate.contract import check_contract, contract
from hw.generate.onnx import convert_onnx
from hw.simulate.bitsim.kernels.library import forced_isa
from hw.tools.cache import check_cache
from hw.tools.toolchain import check_gxx, gxx_seconds
from qmodels.architectures import build_float, check_shape
from qmodels.data import Dataset
from qmodels.errors import UserError
from qmodels.layers import input_shape_of, is_quantized, select_layers
from qmodels.pixel_scale import check_scale
from qmodels.quantize.model import check_layers, check_quantizable

_ROOM = 100 << 20  # bytes; a small run and its simulators


def check_run(run: Run, steps: Sequence[FlowStep], *, machine: bool = True) -> None:
    """Look at the tools that `steps` will need, the data, the model and the choice of layers.

    Args:
        run: nothing of it is written.
        steps: those that will run.
        machine: look at the machine too, first of all; False where it has been looked at.

    Raises:
        UserError: data, model and config do not fit together; nothing was written.
        ToolMissing: a new run will need g++ and there is none.
    """
    names = {step.name for step in steps}
    if machine and "simulate" in names:
        check_machine(run.folder.path, needs_gxx=not run.folder.exists())  # an older run may have all in the cache
    shape, classes = run.data.input_shape, run.data.classes
    if run.unplanned:
        run.config = run.config.model_copy(update={"evaluation": default_plan(run.config.evaluation, run)})
        run.unplanned = False
    if not run.has_model:
        _check_onnx(run, shape, classes)
    elif run.config.model.file is not None:
        check_task(run.config, run.data, run.own_model)
        _check_own(run, classes)
    else:
        check_task(run.config, run.data, None)
        check_shape(run.config.model, shape)
        _check_training(run, shape)
        _check_float(run, build_float(run.config.model, shape, classes, run.config.seed))
    kind = task_kind(run.config.task, run.data, run.own_model)
    check_defence(run, kind)
    if run.config.evaluation.certificate.epsilons_lsb:
        check_certifiable(kind)
    if "attack" in names:
        for plan in run.config.evaluation.attacks:
            plan_radii(plan, run.data)
        for model in run.black_box:
            check_run(model, MODEL_STEPS)


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


def _check_training(run: Run, shape: tuple[int, ...]) -> None:
    steps = run.training.adversarial.epsilon_lsb  # raises where it is another number for every feature
    most = run.data.grid.format.raw_max - run.data.grid.format.raw_min
    if run.config.training.attacks and steps > most:
        raise UserError(
            f"training.adversarial.epsilon_lsb: {steps:g} grid steps; inputs of {run.data.name!r} move by {most} at "
            f"most; allowed: 1 .. {most}"
        )
    if run.config.training.augmentation != "none" and len(shape) != 3:
        raise UserError(
            f"training.augmentation: {run.config.training.augmentation} is for images (height, width, "
            f"channels); the data set {run.data.name!r} gives inputs of shape {shape}: leave it out"
        )


def _check_own(run: Run, classes: int) -> None:
    model = run.own_model
    assert model is not None  # `check_run` asks for your own
    kind = task_kind(run.config.task, run.data, model)
    expected, wanted = _one([(None, *shape) for shape in _shapes(run.data)]), output_shape(kind, run.data)
    taken = _one([tuple(image.shape) for image in model.inputs])
    if taken != expected or getattr(model, "output_shape", None) != wanted:
        raise UserError(
            f"{run.config.model.file}: takes {taken} and gives "
            f"{getattr(model, 'output_shape', None)}; the data set {run.data.name!r} needs {expected} and {wanted}"
            + _mend_shape(model, run.data.input_shape, classes)
        )
    train = MODEL_STEPS[0]  # it began once the scale was found right, for this model and these data
    if kind == "classes" and not run.folder.is_done(train.name, step_key(run, train)):
        check_scale(model, run.data, str(run.config.model.file))
    if run.brings_hardware:
        asked, backend = run.config.exactness, run.config.hardware.backend
        refused = any(broken.severity == "refused" for broken in contract(model, backend))
        strict = asked == "required" or (asked == "auto" and refused)  # then all that --repair can mend is told
        check_contract(model, backend, exactness="required" if strict else "reported")
        return
    try:
        _check_float(run, model)
    except UserError as error:
        raise UserError(f"{error}{_AS_IT_IS}") from None


def _shapes(data: Dataset) -> list[tuple[int, ...]]:
    """Of one sample of every input."""
    return [port.shape for port in data.grid.ports] or [data.input_shape]


def _one(shapes: list[Any]) -> Any:
    """The only one, or all."""
    return shapes[0] if len(shapes) == 1 else shapes


_AS_IT_IS = (
    "\nOr convert it as it is, with hls4ml's types, and get the difference reported: --set exactness=reported, "
    "or your own types by --hls-config FILE"
)


def _mend_shape(model: Any, shape: tuple[int, ...], classes: int) -> str:
    """How to get there from here, where we know."""
    given = getattr(model, "output_shape", None)
    if len(model.outputs) > 1:
        return "; take one of its outputs, model = keras.Model(model.inputs, model.outputs[0]), and save that"
    if len(model.inputs) > 1:
        return ""
    own = input_shape_of(model)
    if own is not None and own != shape and prod(own) == prod(shape):
        return f"; reshape x_train and x_test: x.reshape(-1, {', '.join(map(str, own))})"
    if own == shape and isinstance(given, tuple) and len(given) == 2:
        return f"; labels must be 0..{given[1] - 1}, one for each output: the data have {classes} classes"
    return ""


def told_before(run: Run) -> Iterator[str]:
    """What you should know of your own model before its run: how it was read, and that it may differ from its hardware.

    Args:
        run: checked.
    """
    if run.loaded is not None:
        yield from (f"model: {note}" for note in run.loaded.notes)
    types = run.config.hardware.hls4ml_types
    if types and (not run.has_model or is_quantized(run.own_model)):
        places = {"Model": types.get("Model", {}), **types.get("LayerName", {})}
        named = ", ".join(f"{place}.{key}" for place, entry in places.items() for key in entry)
        yield (
            "types: those of your hls4ml configuration are not taken over, they follow from the model's quantizers: "
            f"{named}"
        )
    if not (run.has_model and run.brings_hardware) or run.config.exactness == "required":
        return
    found = [broken for broken in contract(run.own_model, run.config.hardware.backend)]
    if not found:
        return
    yield (
        "exactness: reported. hls4ml cannot give your model's bits: the accelerator's own are simulated and attacked, "
        "and how much the model differs is reported"
    )
    yield from (f"  {broken}" for broken in found)


def _check_onnx(run: Run, shape: tuple[int, ...], classes: int) -> None:
    path = run.config.model.file
    assert path is not None
    graph = convert_onnx(path, run.config.hardware, run.data.grid.format)
    takes, gives = (
        [tuple(variable.shape) for variable in variables]
        for variables in (graph.get_input_variables(), graph.get_output_variables())
    )
    if (takes, gives) != ([shape], [(classes,)]):
        raise UserError(
            f"{path}: takes {takes} and gives {gives}, channels last; the data set {run.data.name!r} needs {[shape]} "
            f"and {[(classes,)]}"
        )
    for place, plan in enumerate(run.config.evaluation.attacks):
        if plan.attack.knowledge == "white-box" and plan.attack.family != "worst-case":
            raise UserError(
                f"evaluation.attacks.{place}: {plan.attack.kind} needs gradients, and an ONNX model has none here; "
                "allowed: square, hopskipjump and other black-box attacks, noise, worst-case"
            )


def _check_float(run: Run, model: Any) -> None:
    check_quantizable(model)
    check_layers(model, run.config.quantization)
    if run.config.mapping.mu > 0:
        select_layers(model, run.config.mapping.layers)
