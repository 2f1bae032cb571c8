"""Layer-wise choice on a real network: the options of its layers, the best choices, the bound, the attack that decides.

Validation images are attacked, never test images; activations are calibrated on training images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qmodels.attacks import PGD
from qmodels.data import Split
from qmodels.errors import UserError
from qmodels.grid import Values
from qmodels.layers import is_depthwise, kernel_of, weighted_layers
from qmodels.metrics.lipschitz import layer_norms
from qmodels.progress import progress_bar
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.layerwise import (
    Choice,
    LayerKernel,
    LayerwiseConfig,
    Option,
    best_choice,
    budget_of,
    error_bound,
    layer_options,
    option_of,
    perturbation_norm,
)
from qmodels.quantize.model import LayerFormats, QuantizationConfig, QuantizedModel, check_layers, quantize_model
from qmodels.quantize.prequantized import prequantize
from qmodels.runtime import runtime
from qmodels.tasks import CLASSES, Task
from qmodels.victims import KerasVictim

_INPUT_BITS = 9  # the device's pixels, with hls4ml's sign bit


@dataclass(frozen=True)
class Candidate:
    """One choice, as measured."""

    choice: Choice
    mean_delta_w: float  # mean over the layers of ||Q(W) - W||_2, reshaped kernels
    stored_bits: int
    bound: float | None  # of ||δ_L||; None for a network with branches
    clean: float  # validation accuracy, or share within the tolerance
    attacked: float

    def as_json(self) -> dict[str, Any]:
        """The measured values."""
        return {key: value for key, value in vars(self).items() if key != "choice"}


@dataclass(frozen=True)
class Selection:
    """What was chosen, out of what."""

    layers: tuple[LayerKernel, ...]
    budget: int
    unit: str  # stored bits or EBOPs
    common: Candidate  # the section's settings, the same for all layers
    candidates: tuple[Candidate, ...]  # the least mean error first
    chosen: int

    @property
    def formats(self) -> dict[str, LayerFormats]:
        """For `quantize_model`."""
        return _formats(self.layers, self.candidates[self.chosen].choice)

    def table(self) -> list[dict[str, Any]]:
        """One row a layer: what was chosen for it."""
        options = self.candidates[self.chosen].choice.options
        return [_row(layer, option) for layer, option in zip(self.layers, options, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """The `layerwise` part of results.json."""
        return {
            "budget": self.budget,
            "unit": self.unit,
            "chosen": self.chosen,
            "common": self.common.as_json(),
            "candidates": [candidate.as_json() for candidate in self.candidates],
            "layers": self.table(),
        }


def select_formats(
    float_model: Any, config: QuantizationConfig, train: Values, validation: Split, *, seed: int, task: Task = CLASSES
) -> Selection:
    """Choose every layer's weight code under the budget of `config.layerwise`.

    An exact search finds the choices of least total ||ΔW||_2: of all, of those in which no layer has fewer bits than
    with the section's own settings, of those in which no layer errs more than it needs to at its cost there, and of
    those in which one layer may, to pay for the others. They are re-scored end to end: by the bound, and by accuracy
    (of a regression: the share within the tolerance of the truth) on clean and on attacked (PGD) validation inputs. The
    highest sum of the two wins.

    Args:
        float_model: as for `quantize_model`.
        config: with `layerwise`.
        train: values of inputs that calibrate activations and measure the layers' inputs.
        validation: inputs and labels that are attacked.
        seed: of the attack.
        task: what the model is for; of a regression y is the reference.

    Raises:
        UserError: nothing fits into the budget, or the config names a layer that does not exist.
    """
    wanted = config.layerwise or LayerwiseConfig()
    model = fold_batch_norm(float_model)
    check_layers(model, config)
    layers = _layers(model, config)
    ebops = wanted.budget.ebops is not None
    base = {layer.name: config.of_layer(layer.name) for layer in layers}
    budget = budget_of(layers, base, wanted.budget)
    common = Choice(tuple(option_of(layer, base[layer.name], ebops=ebops) for layer in layers))
    unit = "EBOPs" if ebops else "stored bits"
    choices = _choices([layer_options(layer, base[layer.name], wanted) for layer in layers], common, budget, wanted)
    judge = _Judge(model, config, layers, train, validation, seed, task)
    with progress_bar("comparing", len(choices) + 1) as bar:
        measured = []
        for choice in (common, *choices):
            measured.append(judge.measure(choice))
            bar.advance()
    found = tuple(measured[1:])
    best = max(range(len(found)), key=lambda index: found[index].clean + found[index].attacked)
    return Selection(tuple(layers), budget, unit, measured[0], found, best)


def _choices(options: list[list[Option]], common: Choice, budget: int, wanted: LayerwiseConfig) -> list[Choice]:
    """The best choices of different kinds, without repetitions, the least mean error first.

    In one of them no layer has fewer bits than in common, in one no layer errs more than it needs to at its common
    cost. In others one layer alone, each in turn, may err more: it pays for the rest. The last one is the best of all.
    """
    pairs = list(zip(options, common.options, strict=True))
    equal = [min((o.score for o in layer if o.cost <= own.cost), default=own.score) for layer, own in pairs]
    kept = [[o for o in layer if o.score <= most] for layer, most in zip(options, equal, strict=True)]
    never_fewer = [[own, *(o for o in layer if o.config.weight_bits >= own.config.weight_bits)] for layer, own in pairs]
    kinds = [
        never_fewer,
        kept,
        *([*kept[:donor], options[donor], *kept[donor + 1 :]] for donor in range(len(options))),
        options,
    ]
    found = [choice for kind in kinds if (choice := best_choice(kind, budget)) is not None]
    choices: list[Choice] = []
    for choice in sorted(found, key=lambda choice: choice.mean_score):
        if all(choice.options != other.options for other in choices):
            choices.append(choice)
    if not choices:
        least = sum(layer[0].cost for layer in options)
        raise UserError(
            f"quantization.layerwise.budget: {budget} is too little, the cheapest choice takes {least}; "
            f"raise the budget or allow fewer bits"
        )
    return choices[: wanted.candidates]


def quantize_as_asked(
    float_model: Any,
    config: QuantizationConfig,
    train: Split,
    validation: Split,
    *,
    seed: int,
    formats: Mapping[str, LayerFormats] | None = None,
    task: Task = CLASSES,
) -> tuple[QuantizedModel, Selection | None]:
    """`quantize_model`, after the layer-wise choice where the config asks for one and `formats` are not given."""
    values, grid = train.take(config.calibration_samples).values, train.grid
    if config.layerwise is None or formats:
        return quantize_model(float_model, config, values, grid=grid, formats=formats), None
    selection = select_formats(float_model, config, values, validation, seed=seed, task=task)
    return quantize_model(float_model, config, values, grid=grid, formats=selection.formats), selection


class _Judge:
    """Scores whole choices on one network."""

    def __init__(
        self,
        model: Any,
        config: QuantizationConfig,
        layers: list[LayerKernel],
        train: Values,
        validation: Split,
        seed: int,
        task: Task,
    ) -> None:
        self.task = task
        self.model, self.config, self.layers, self.train, self.seed = model, config, layers, train, seed
        self.wanted = config.layerwise or LayerwiseConfig()
        self.x, self.y = validation.take(self.wanted.samples)
        self.grid = validation.grid
        self.inputs = _input_norms(model, train[: config.calibration_samples]) if _is_chain(model) else None
        self._norms: dict[int, tuple[float, float]] = {}  # by id of an option, which its choice keeps alive

    def measure(self, choice: Choice) -> Candidate:
        """Bound and validation accuracies of one choice."""
        formats = _formats(self.layers, choice)
        quantized = quantize_model(self.model, self.config, self.train, grid=self.grid, formats=formats)
        victim = self.task.view(KerasVictim(prequantize(quantized.model), "quantized", self.grid))
        attack, criterion = PGD(steps=self.wanted.steps), self.task.criterion
        result = attack(
            victim, self.x, self.y, epsilon_lsb=self.wanted.epsilon_lsb, seed=self.seed, criterion=criterion
        )
        stored = sum(
            option.code.stored_bits(layer.kernel.size)
            for layer, option in zip(self.layers, choice.options, strict=True)
        )
        clean = float(np.mean(~criterion.wrong(victim.logits(self.x), self.y)))
        return Candidate(choice, choice.mean_score, stored, self._bound(choice), clean, float(result.accuracy))

    def _bound(self, choice: Choice) -> float | None:
        if self.inputs is None:
            return None
        norms = [self._operator_norms(*pair) for pair in zip(self.layers, choice.options, strict=True)]
        kernels, errors = zip(*norms, strict=True)
        pixels = int(np.prod(self.x.shape[1:]))
        return error_bound(kernels, errors, self.inputs, perturbation_norm(self.wanted.epsilon_lsb, pixels, self.grid))

    def _operator_norms(self, layer: LayerKernel, option: Option) -> tuple[float, float]:
        """Of the rounded kernel and of the rounding error."""
        if id(option) not in self._norms:
            rounded, keras_layer = option.code.round(layer.kernel), self.model.get_layer(layer.name)
            both = (layer_norms(keras_layer, kernel).operator.two for kernel in (rounded, rounded - layer.kernel))
            self._norms[id(option)] = (next(both), next(both))
        return self._norms[id(option)]


def _layers(model: Any, config: QuantizationConfig) -> list[LayerKernel]:
    found = []
    for index, layer in enumerate(weighted_layers(model)):
        kernel = kernel_of(layer).numpy().astype(np.float64)
        fixed = config.of_layer(layer.name) if layer.name in config.layers else None
        bits = config.activation_bits if index else _INPUT_BITS
        found.append(LayerKernel(layer.name, kernel, is_depthwise(layer), bits, fixed))
    return found


def _formats(layers: tuple[LayerKernel, ...] | list[LayerKernel], choice: Choice) -> dict[str, LayerFormats]:
    blank = LayerFormats("", None, None, None)
    pairs = zip(layers, choice.options, strict=True)
    return {layer.name: replace(blank, layer=layer.name, code=option.code) for layer, option in pairs}


def _row(layer: LayerKernel, option: Option) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "method": option.config.method,
        "bits": option.config.weight_bits,
        "granularity": option.config.granularity,
        "clip": option.config.clip,
        "mu": option.config.codebook.mu if option.config.method == "codebook" else None,
        "delta_w_2": option.score,
        "stored_bits": option.code.stored_bits(layer.kernel.size),
        "weights": layer.kernel.size,
        "hardware_type": str(option.code.hardware),
    }


def _is_chain(model: Any) -> bool:
    """Whether every layer has one input."""
    return all(not isinstance(layer.input, (list, tuple)) for layer in model.layers)


def _input_norms(model: Any, images: Values) -> list[float]:
    """Mean over the images of ||x_l|| for the input of every layer with weights."""
    inputs = [layer.input for layer in weighted_layers(model)]
    outputs = runtime().keras.Model(model.input, inputs).predict(images, batch_size=500, verbose=0)
    values = outputs if len(inputs) > 1 else [outputs]
    return [float(np.linalg.norm(value.reshape(len(value), -1), axis=1).mean()) for value in values]
