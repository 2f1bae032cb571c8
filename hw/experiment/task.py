"""From the config, the data and the model to the task: what the model is for and when an attack has succeeded."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.experiment.config import RunConfig, TaskConfig
from qmodels.criteria import MISCLASSIFICATION, AnomalyScore, Deviation, GroupMisclassification, Targeted
from qmodels.data import Dataset
from qmodels.errors import UserError
from qmodels.targets import TargetKind
from qmodels.tasks import Task, TaskKind, anomaly_threshold


def target_kind(config: TaskConfig, model: Any | None) -> TargetKind | Literal["auto"]:
    """What the data's y must hold. Without a model of the user's own one is trained, which takes classes."""
    if config.kind == "binary":
        return "classes"
    if config.kind != "auto":
        return config.kind
    if model is None:
        return "classes"
    return "anomaly" if model.output_shape == model.input_shape else "auto"


def task_kind(config: TaskConfig, data: Dataset, model: Any | None) -> TaskKind:
    """The kind asked for; else an auto-encoder gives back its input's shape, and one logit tells two classes apart."""
    if config.kind != "auto":
        return config.kind
    if data.targets != "classes":
        return data.targets
    return "binary" if model is not None and model.output_shape == (None, 1) and data.classes == 2 else "classes"


def make_task(config: TaskConfig, kind: TaskKind, normal_scores: NDArray[np.float64] | None = None) -> Task:
    """The task of that kind.

    Args:
        config: tolerance, reference and so on.
        kind: as `task_kind` found it.
        normal_scores: anomaly only: reconstruction errors of normal validation samples.

    Raises:
        UserError: a regression without a tolerance; an auto-encoder whose threshold cannot be found.
    """
    if kind == "regression":
        if config.tolerance is None:
            raise UserError(
                "task.tolerance is missing: this is a regression, and an attack succeeds when an output moves by more "
                "than the tolerance; for example --set task.tolerance=0.1, or a share of the output: "
                "--set task.tolerance=0.1 --set task.relative=true"
            )
        return Task(kind, Deviation(tolerance=config.tolerance, relative=config.relative), config.reference)
    if kind == "anomaly":
        if normal_scores is None or not len(normal_scores):
            raise UserError("task.kind anomaly: no validation sample is normal (label 0), so there is no threshold")
        threshold = anomaly_threshold(normal_scores, config.false_positive_rate)
        if not threshold > 0:
            raise UserError("task.kind anomaly: normal validation samples are rebuilt without error; no threshold fits")
        return Task(kind, AnomalyScore(threshold=threshold, direction=config.direction))
    if config.target is not None:
        return Task(kind, Targeted(target=config.target))
    return Task(kind, GroupMisclassification(groups=config.groups) if config.groups else MISCLASSIFICATION)


def check_task(config: RunConfig, data: Dataset, model: Any | None) -> None:
    """Raise UserError where the task, the data and the model do not fit together."""
    kind = task_kind(config.task, data, model)
    if kind != "anomaly":
        make_task(config.task, kind)
    named = [label for group in config.task.groups for label in group]
    largest = max([*named, -1 if config.task.target is None else config.task.target])
    if largest >= 0 and kind not in ("classes", "binary"):
        raise UserError(f"task.target and task.groups name classes, and this is a task of kind {kind}; leave them out")
    if kind in ("classes", "binary") and largest >= data.classes:
        raise UserError(f"task: class {largest} is named; the data set {data.name!r} has classes 0..{data.classes - 1}")
    if kind == "anomaly":
        _check_marks(config.task, data)
    if kind == "classes":
        return
    if model is None:
        raise UserError(
            f"task.kind {kind}: only classifiers are trained here; bring your own trained model: --model model.keras"
        )
    if config.evaluation.black_box and kind != "binary":
        raise UserError(
            f"evaluation.black_box: these models are trained as classifiers, and the task is {kind}; "
            "use evaluation.black_box: []"
        )
    if config.quantization.layerwise is not None and kind == "anomaly":
        raise UserError(
            "quantization.layerwise: chooses by what is right on validation data, and the threshold of anomaly scores "
            "is known only when a choice is made; leave it out"
        )


def output_shape(kind: TaskKind, data: Dataset) -> tuple[int | None, ...]:
    """What a model must give for that task."""
    if kind == "anomaly":
        return (None, *data.input_shape)
    widths = {"classes": data.classes, "binary": 1, "regression": data.test.y.shape[-1]}
    return None, widths[kind]


def _check_marks(config: TaskConfig, data: Dataset) -> None:
    """There must be samples to attack, and normal ones to find the threshold with."""
    wanted = 1 if config.direction == "hide" else 0
    if not (data.test.y == wanted).any():
        raise UserError(
            f"data set {data.name!r}: task.direction {config.direction} needs test samples of label {wanted}"
        )
    if not (data.validation.y == 0).any():
        raise UserError(f"data set {data.name!r}: no validation sample is normal (label 0), so there is no threshold")
