"""One run: its config, its folder, and what its steps share, loaded when first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.accelerator import Accelerator
from hw.experiment.config import RunConfig
from hw.experiment.folder import RunFolder
from hw.experiment.stored import FormatsPart, QuantizationPart
from hw.experiment.task import make_task, target_kind, task_kind
from hw.generate.contract import (
    Exactness,
    OutputChange,
    Repaired,
    Violation,
    fold_scale,
    output_change,
    repair_model,
)
from hw.generate.onnx import ONNX_FILE, convert_onnx, is_onnx
from hw.simulate.gradients import gradients_of
from qmodels.affine import Affine
from qmodels.data import Dataset, load_data
from qmodels.errors import UserError
from qmodels.grid import InputGrid
from qmodels.heads import ReconstructionError, strip_probabilities
from qmodels.layers import is_quantized, kernel_of, weighted_layers
from qmodels.loading import LoadedModel, load_model, load_model_with_notes
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.model import LayerFormats
from qmodels.quantize.prepare import prepare_float
from qmodels.quantize.prequantized import prequantize
from qmodels.scaling import Unscaled, take_off_scaling
from qmodels.shapes import read_stored
from qmodels.targets import TargetKind
from qmodels.tasks import Task
from qmodels.tflite import is_tflite
from qmodels.training import TrainingConfig
from qmodels.victims import GradientModel, KerasVictim, Victim


class Run:
    """Config + folder + lazily loaded data and models."""

    #: The steps that the device comes from: attacks on it are made anew when these have made something else.
    device_steps: tuple[str, ...] = ("train", "map", "quantize", "project")

    def __init__(
        self, config: RunConfig, folder: RunFolder, data_dir: Path | None = None, data: Dataset | None = None
    ) -> None:
        self.config = config
        self.folder = folder
        self.data_dir = data_dir
        self.kept: dict[Any, Any] = {}  # what other modules make of its models once: loops are compiled with them
        self._handed_data = data is not None
        self.unplanned = False  # nobody said what to attack: `check_run` puts a plan made for the data in the config
        if data is not None:
            self.data = data

    @cached_property
    def data(self) -> Dataset:
        """The images, split."""
        own = (lambda: self._attackable_as_it_is) if self.config.model.file is not None and self.has_model else None
        kind = lambda: target_kind(self.config.task, own and own())  # noqa: E731
        return load_run_data(self.config, self.data_dir, own, kind, lambda: self.unscaled.scalings)

    @property
    def training(self) -> TrainingConfig:
        """How models are trained, ε in grid steps of the data."""
        asked = self.config.training
        adversarial = asked.adversarial.in_steps(self.data.inputs, self.data.input_shape)
        return asked.model_copy(update={"adversarial": adversarial})

    @cached_property
    def task(self) -> Task:
        """What the model is for; an auto-encoder's threshold is that of the accelerator's model."""
        kind = task_kind(self.config.task, self.data, self.own_model)
        if kind != "anomaly":
            return make_task(self.config.task, kind)
        validation = self.data.validation
        judge = self.quantized if self.has_model else self.accelerator
        scores = ReconstructionError().arrays(judge.logits(validation.x), validation.values)
        return make_task(self.config.task, kind, scores[validation.y == 0, 0])

    @cached_property
    def attackable(self) -> NDArray[np.intp]:
        """Test samples that the task's attacks concern: all, or of an auto-encoder's only anomalies or normal ones."""
        return np.flatnonzero(self.task.concerned(self.data.test.y))

    @cached_property
    def own_model(self) -> Any | None:
        """Your model, repaired if you asked for it; None when we train one.

        A float model that goes to hls4ml as it is has its batch normalization folded: hls4ml's own folding is wrong
        behind depthwise convolutions. A float model loses its softmax: it is attacked through its logits.
        """
        model = self.repaired.model if self.repaired is not None else self.adopted[0]
        if model is None or is_quantized(model) or not self.brings_hardware:
            return model
        with contextlib.suppress(UserError):  # where it cannot be folded, the contract tells
            return fold_batch_norm(model)
        return model

    @cached_property
    def adopted(self) -> tuple[Any | None, str]:
        """Your model before repairs, and what was taken off it or put into it."""
        model, scaled = self._own_model_as_it_is, self.unscaled.told
        if model is None or is_quantized(model):  # whose repairs are told apart
            return model, ""
        model, told = strip_probabilities(model)
        prepares = self.config.model.prepare and not self.brings_hardware
        model, more = prepare_float(model) if prepares else (model, "")
        return model, "; ".join(part for part in (scaled, told, more) if part)

    @property
    def _attackable_as_it_is(self) -> Any | None:
        return self.adopted[0]

    @property
    def _own_model_as_it_is(self) -> Any | None:
        return self.unscaled.model

    @cached_property
    def unscaled(self) -> Unscaled:
        """Your model without the layers that scale its inputs, which `data` does; a quantized one with --repair."""
        model = self.loaded.model if self.loaded is not None else None
        if model is None or (is_quantized(model) and not self.config.model.repair):
            return Unscaled(model)
        found = take_off_scaling(model)
        if found.told and self._handed_data:  # sizing reads data without any model
            raise UserError(
                f"{self.config.model.file}: {found.told}; sizing does not do that: build the model without these "
                "layers, and scale your numbers (data.input.scale)"
            )
        return found

    @cached_property
    def loaded(self) -> LoadedModel | None:
        """Your model as its file holds it, and what was written differently to load it."""
        path = self.config.model.file
        if path is None or not self.has_model:
            return None
        return load_model_with_notes(path, self.config.model.weights)

    @property
    def has_model(self) -> bool:
        """Whether there is a Keras model beside the accelerator: ONNX goes to hls4ml alone, without gradients."""
        return not is_onnx(self.config.model.file) and not is_tflite(self.config.model.file)

    @property
    def has_gradients(self) -> bool:
        """Whether there is a model whose gradients an attack on the device may follow."""
        return self.has_model

    @property
    def device_gradients(self) -> GradientModel:
        """That model; only where there is one."""
        return self.prequantized.gradient_model

    @property
    def device(self) -> Victim:
        """What is deployed, and judged in the end: the accelerator."""
        return self.accelerator

    @cached_property
    def brings_hardware(self) -> bool:
        """Whether your model goes to hls4ml as it is: it is not mapped and not quantized here.

        A float model does when you ask for its difference to be reported, or bring types for it.
        """
        asked = self.config.exactness == "reported" or bool(self.config.hardware.hls4ml_types)
        model = self._own_model_as_it_is
        return not self.has_model or (model is not None and (asked or is_quantized(model)))

    @cached_property
    def repaired(self) -> Repaired | None:
        """Your QKeras model with its repairs, when you asked for them."""
        model = self._own_model_as_it_is
        if model is None or not self.config.model.repair or not is_quantized(model):
            return None
        repaired = repair_model(model, self.config.hardware.backend, input_formats=self.data.grid.formats)
        told = self.unscaled.told
        return replace(repaired, repairs=(told, *repaired.repairs)) if told else repaired

    def repair_change(self) -> OutputChange | None:
        """How the repairs changed the outputs on test images."""
        if self.repaired is None:
            return None
        few, grid = self.data.test.take(1000), self.data.grid
        numbers = self.data.inputs.unscaled(few.values).astype(np.float32) if self.unscaled.told else few.values
        original = self.loaded.model if self.loaded is not None else None
        chooses = task_kind(self.config.task, self.data, original) in ("classes", "binary")
        return output_change(original, self.repaired, grid.feed(few.values), grid.feed(numbers), chooses=chooses)

    @cached_property
    def float_model(self) -> Any | None:
        """The trained float model; None when you brought a QKeras model."""
        path = self.folder / "model.keras"
        return load_model(path, ours=True) if path.exists() else None

    @cached_property
    def latent_model(self) -> Any | None:
        """Float weights from quantization-aware training; None without it."""
        path = self.folder / "latent.keras"
        return load_model(path, ours=True) if path.exists() else None

    def trained_formats(self) -> dict[str, LayerFormats]:
        """The formats that quantization-aware training saw; none without it."""
        path = self.folder / "formats.json"
        if not path.exists():
            return {}
        items = [LayerFormats.from_json(item) for item in read_stored(path, list[FormatsPart])]
        return {item.layer: item for item in items}

    @cached_property
    def mapped_model(self) -> Any | None:
        """The float model after the µ-law mapping."""
        path = self.folder / "mapped.keras"
        return load_model(path, ours=True) if path.exists() else None

    @cached_property
    def quantized_model(self) -> Any:
        """The QKeras model that the accelerator computes."""
        return load_model(self.folder / "quantized.keras", ours=True)

    @cached_property
    def weight_bits(self) -> float | None:
        """Bits of a weight's code, the mean over the weights where layers differ; None for your own QKeras model."""
        if self.mapped_model is None:
            return None
        path = self.folder / "quantization.json"
        bits = {row["layer"]: row.get("bits") for row in read_stored(path, list[QuantizationPart])}
        layers = weighted_layers(self.quantized_model)
        if missing := [layer.name for layer in layers if not bits.get(layer.name)]:
            raise UserError(f"{path}: must have the bits of layer {missing[0]!r}")
        if len(used := {int(bits[layer.name]) for layer in layers}) == 1:
            return used.pop()
        sizes = [prod(kernel_of(layer).shape) for layer in layers]
        return round(float(np.average([bits[layer.name] for layer in layers], weights=sizes)), 2)

    @cached_property
    def quantized(self) -> KerasVictim:
        """The QKeras model as a victim; in float64 where float32 does not hold its sums."""
        if self.has_wide_sums:
            return self.prequantized
        return KerasVictim(self.quantized_model, "quantized", self.data.grid)

    @property
    def has_wide_sums(self) -> bool:
        """Whether we quantized the model to so many bits that float32, in which QKeras computes, rounds its sums."""
        return self.config.quantization.has_wide_sums and not self.brings_hardware

    @cached_property
    def float_victim(self) -> KerasVictim | None:
        """The float model as a victim."""
        return KerasVictim(self.float_model, "float", self.data.grid) if self.float_model is not None else None

    @cached_property
    def mapped_victim(self) -> KerasVictim | None:
        """The mapped float model as a victim; None where its weights were trained to run only through quantizers."""
        if self.mapped_model is None or self.latent_model is not None:
            return None
        return KerasVictim(self.mapped_model, "float", self.data.grid)

    @cached_property
    def prequantized(self) -> KerasVictim:
        """The QKeras model with constant weights: the same bits (the gate checks), several times faster to attack.

        Only the contract promises these bits: where the model breaks it, the model itself.
        """
        if self.exactness == "reported" and not self.has_wide_sums:
            return self.quantized
        double = self.has_wide_sums
        model = prequantize(self.quantized_model, double=double)
        return KerasVictim(model, "quantized", self.data.grid, engine=gradients_of)

    @cached_property
    def hardware_model(self) -> Any:
        """What hls4ml is given: the QKeras model, with a power of two in `data.input.scale` folded into its weights."""
        return self.quantized_model if self._folded is None else self._folded

    @cached_property
    def hardware_grid(self) -> InputGrid:
        """The data's grid as the accelerator reads it: with such a scale the same codes are your own numbers."""
        return self.data.grid if self._folded is None else self.data.grid.moved(self.data.inputs.shifts)

    @cached_property
    def _folded(self) -> Any | None:
        shifts = self.data.inputs.shifts
        if not any(shifts) or not self.has_model or self.task.kind == "anomaly":  # whose score is of the model's values
            return None
        return fold_scale(self.quantized_model, shifts, self.data.grid.formats, self.config.hardware.backend)

    @cached_property
    def accelerator(self) -> Accelerator:
        """The accelerator, simulated by the engine that the config asks for; it stands in attacks and scores.

        Where the model may differ from it and bitsim does not know a layer, csim takes its place.
        """
        wanted, engine = self.config.exactness, self.config.simulation.engine
        if not self.has_model:
            graph = convert_onnx(self.folder / ONNX_FILE, self.config.hardware, self.data.grid.format)
            return Accelerator.from_hls4ml(graph, grid=self.data.grid, engine=None if engine == "bitsim" else engine)
        lenient = wanted == "reported" or (wanted == "auto" and self.brings_hardware)
        return Accelerator(
            self.hardware_model,
            self.config.hardware,
            grid=self.hardware_grid,
            exactness="reported" if lenient else "required",
            engine=None if lenient and engine == "bitsim" else engine,
        )

    @cached_property
    def exactness(self) -> Exactness:
        """Whether the accelerator must give the model's bits; what `auto` in the config means for this model."""
        if not self.has_model:
            return "reported"
        if self.config.exactness != "auto":
            return self.config.exactness
        return "reported" if self.may_differ else "required"

    @cached_property
    def may_differ(self) -> tuple[Violation, ...]:
        """Why your model may differ from its accelerator; types that you narrowed yourself are no excuse."""
        if not (self.has_model and self.brings_hardware):
            return ()
        told = [warning for warning in self.accelerator.warnings if warning.severity == "reported"]
        chosen = ("precision.accum", "precision.result", "reuse_factor")
        return tuple(warning for warning in told if warning.setting not in chosen)

    @cached_property
    def black_box(self) -> tuple[Run, ...]:
        """The attacker's own models, each a run in `black_box/` that ends before the hardware."""
        return tuple(
            Run(self.config.apart(model), RunFolder(self.folder / "black_box" / model.name), self.data_dir, self.data)
            for model in self.config.evaluation.black_box
        )


def load_run_data(
    config: RunConfig,
    data_dir: Path | None = None,
    model: Callable[[], Any] | None = None,
    targets: Callable[[], TargetKind | Literal["auto"]] = lambda: "classes",
    scalings: Callable[[], Sequence[Affine | None]] | None = None,
) -> Dataset:
    """The data that a config asks for, split; UserError as for `load_data`, which says what the others are for."""
    wanted = config.data
    return load_data(
        wanted.name,
        seed=config.seed,
        data_dir=data_dir,
        validation_share=wanted.validation_share,
        test_share=wanted.test_share,
        limit_train=wanted.limit_train,
        limit_test=wanted.limit_test,
        label=wanted.label,
        inputs=wanted.input,
        inputs_of=wanted.inputs,
        model=model,
        targets=targets,
        scalings=scalings,
    )
