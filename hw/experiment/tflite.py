"""Attacks on a `.tflite` file: the steps of a run that has no accelerator. The file itself is the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import run_attacks
from hw.experiment.black_box import train_black_box
from hw.experiment.examples import pick_examples
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import FlowStep
from hw.experiment.plan import default_plan
from hw.experiment.preflight import check_run
from hw.experiment.radius import plan_radii
from hw.experiment.run import Run
from hw.experiment.scoring import results_of, scored
from hw.experiment.task import make_task
from qmodels.errors import UserError
from qmodels.heads import strip_probabilities
from qmodels.loading import load_model
from qmodels.metrics.masking import Row
from qmodels.pixel_scale import SAMPLES, clearly_better
from qmodels.storage import save_model, write_bytes, write_json
from qmodels.tasks import Task, TaskKind
from qmodels.tflite import PIXELS, TFLiteVictim
from qmodels.victims import GradientModel, KerasVictim, predictions

FILE, SURROGATE = "model.tflite", "surrogate.keras"  # their names in a run folder


class TFLiteRun(Run):
    """Config + folder; the device is a `.tflite` file."""

    device_steps = ("adopt",)

    @classmethod
    def of(cls, run: Run) -> TFLiteRun:
        """The run that was opened, with the file as its device."""
        own = cls(run.config, run.folder, run.data_dir)
        own.unplanned = run.unplanned
        return own

    @cached_property
    def device(self) -> TFLiteVictim:
        """The file in TensorFlow Lite's interpreter."""
        assert self.config.model.file is not None
        return TFLiteVictim(self.config.model.file, self.data.grid, pixels=self.config.model.pixels)

    @cached_property
    def weight_bits(self) -> float | None:
        """Bits of a weight; None for float32."""
        return self.device.weight_bits

    @cached_property
    def task(self) -> Task:
        """Classes, told apart by as many logits or by one."""
        kind: TaskKind = "binary" if self.device.outputs == 1 else "classes"
        return make_task(self.config.task, kind)

    @property
    def has_gradients(self) -> bool:
        """Whether you brought a Keras model beside the file."""
        return self.config.model.surrogate is not None

    @cached_property
    def surrogate(self) -> Any:
        """Your Keras model, without its softmax."""
        assert self.config.model.surrogate is not None
        return strip_probabilities(load_model(self.config.model.surrogate))[0]

    @cached_property
    def device_gradients(self) -> GradientModel:
        """Those of the surrogate."""
        return GradientModel(self.surrogate, self.data.grid)


def check_tflite(run: TFLiteRun) -> None:
    """Look at the file, the data, the surrogate and the plan before anything is written.

    Raises:
        UserError: they do not fit together.
    """
    model, data, victim = run.config.model, run.data, run.device
    refused = {
        "model.weights (--weights)": model.weights is not None,
        "model.repair": model.repair,
        "defence.kind": run.config.defence.kind != "none",
    }
    for key, asked in refused.items():
        if asked:
            raise UserError(f"{key}: is for Keras models; leave it out for {model.file}")
    if data.targets != "classes" or run.config.task.kind not in ("auto", run.task.kind):
        raise UserError(f"{model.file}: only classifiers are attacked as .tflite files; the task is another one")
    if _plain(victim.input_shape) != _plain(data.input_shape) or victim.outputs not in _widths(data.classes):
        raise UserError(
            f"{model.file}: takes {victim.input_shape} and gives {victim.outputs} numbers; the data set {data.name!r} "
            f"has inputs of shape {data.input_shape} and {data.classes} classes"
        )
    _check_pixels(run)
    if run.has_gradients:
        _check_surrogate(run)
    if run.unplanned:
        run.config = run.config.model_copy(update={"evaluation": default_plan(run.config.evaluation, run)})
        run.unplanned = False
    for place, plan in enumerate(run.config.evaluation.attacks):
        plan_radii(plan, data)
        if plan.attack.knowledge == "white-box" and not run.has_gradients:
            raise UserError(
                f"evaluation.attacks.{place}: {plan.attack.kind} needs gradients, and a .tflite file gives none; add "
                "--surrogate model.keras, the model it was made from or one like it; or ask for square, hopskipjump "
                "or another black-box attack"
            )
    for own in run.black_box:
        check_run(own, MODEL_STEPS)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without sizes of one: (8, 8, 1) is (8, 8)."""
    return tuple(size for size in shape if size != 1)


def _widths(classes: int) -> tuple[int, ...]:
    return (1, 2) if classes == 2 else (classes,)


def _right(run: TFLiteRun, victim: TFLiteVictim) -> NDArray[np.bool_]:
    few = run.data.train.take(SAMPLES)
    return np.asarray(predictions(run.task.view(victim), few.x) == few.y)


def _check_pixels(run: TFLiteRun) -> None:
    """Refuse where the network was clearly trained on another scale of the pixels than it is given."""
    if run.data.grid.format.width != 8 or run.data.grid.format.signed or run.data.inputs.scale != "none":
        return
    right, others = _right(run, run.device), dict[str, NDArray[np.bool_]]()
    for pixels in PIXELS:
        if pixels == run.config.model.pixels or (pixels == "codes" and run.device.stores.itemsize > 1):
            continue
        others[pixels] = _right(run, run.device.with_pixels(pixels))
    best = clearly_better(right, others)
    if best is not None:
        raise UserError(
            f"{run.config.model.file}: is right on {100 * right.mean():.1f} % of {len(right)} training samples as they "
            f"are given to it (model.pixels={run.config.model.pixels}), and on {100 * others[best].mean():.1f} % with "
            f"model.pixels={best}. Add --set model.pixels={best}"
        )


def _check_surrogate(run: TFLiteRun) -> None:
    found = run.surrogate.input_shape, run.surrogate.output_shape
    if found != ((None, *run.data.input_shape), (None, run.device.outputs)):
        raise UserError(
            f"model.surrogate: {run.config.model.surrogate}: takes {found[0]} and gives {found[1]}; needed: "
            f"{(None, *run.data.input_shape)} and {(None, run.device.outputs)}"
        )


def told(run: TFLiteRun) -> Iterator[str]:
    """What the file is, and what you should know of attacks on it."""
    victim = run.device
    yield f"model: {victim.precision}" + (
        f"; its {victim.head} is left out, the logits are read" if victim.head else ""
    )
    yield victim.inputs.told
    if victim.probabilities:
        yield (
            "warning: it gives probabilities whose logits could not be found; their logarithms are attacked, and every "
            "row is flagged softmax-outputs"
        )
    if run.has_gradients:
        agreement = f"{_agreement(run):.1%} of test samples as the file"
        yield f"gradients: of {run.config.model.surrogate}, which decides {agreement}"


def _agreement(run: TFLiteRun) -> float:
    """Share of test samples for which the surrogate and the file give one class."""
    x = run.data.test.take(run.config.evaluation.samples).x
    surrogate = run.task.view(KerasVictim(run.surrogate, "float", run.data.grid))
    return float(np.mean(predictions(surrogate, x) == predictions(run.task.view(run.device), x)))


def adopt_step(run: Run) -> tuple[str, ...]:
    """Keep the file, and the surrogate where there is one."""
    assert isinstance(run, TFLiteRun) and run.config.model.file is not None
    write_bytes(run.folder / FILE, run.config.model.file.read_bytes())
    run.folder.remove(SURROGATE)  # of an earlier config of this run
    if not run.has_gradients:
        return (FILE,)
    save_model(run.surrogate, run.folder / SURROGATE)
    return FILE, SURROGATE


def attack_step(run: Run) -> tuple[str, ...]:
    """Make adversarial examples; every finished one is kept."""
    return (*train_black_box(run), *run_attacks(run))


def evaluate_step(run: Run) -> tuple[str, ...]:
    """Score the examples, and flag what is not to be believed."""
    assert isinstance(run, TFLiteRun)
    scores, _ = scored(run)
    rows = [replace(row, softmax_outputs=row.softmax_outputs or run.device.probabilities) for row in scores.rows]
    lines = list(told(run))
    results = results_of(run, scores, rows) | {
        "exactness": {"told": f"no accelerator: a .tflite file. {'; '.join(lines)}"}
    }
    results["tflite"] = {"precision": run.device.precision, "head": run.device.head, "told": lines}
    write_json(run.folder / "examples.json", pick_examples(run, [Row.from_json(row) for row in results["rows"]]))
    write_json(run.folder / "results.json", results)
    return "results.json", "examples.json"


_READ = ("evaluation", "task", "data", "model.pixels")
#: What is done with a `.tflite` file; the report comes after it (hw/report/step.py).
STEPS = (
    FlowStep("adopt", ("model",), (), adopt_step),
    FlowStep("attack", _READ, ("adopt",), attack_step),
    FlowStep("evaluate", _READ, ("adopt", "attack"), evaluate_step),
)
