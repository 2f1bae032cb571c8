"""The float model's QKeras twin: same layers, low-bit weights, fixed-point activations.

The exactness contract of hls4ml 1.3.0 is obeyed by construction: every quantizer has `alpha=1`, the input is
rounded by `quantized_bits(9, 0, alpha=1)`, activations are `quantized_relu`, outputs are logits.

A power-of-two step below 2**(1-bits) would need negative integer bits, which QKeras 0.9.0 cannot express. So the
kernel is stored already rounded to its levels (`weights.WeightCode`), and its quantizer is the (wider) grid these lie
on: an identity on them. hls4ml's `bit_exact` pass derives the hardware type from the values and finds the b bits again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qmodels.architectures import INPUT_GRID
from qmodels.errors import UserError, allowed_names
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid, Values
from qmodels.layers import WEIGHTED, is_depthwise, kernel_of, weighted_layers
from qmodels.quantize.averages import unrounded_averages
from qmodels.quantize.batch_norm import fold_batch_norm, foldable_norms
from qmodels.quantize.fit import fit_code
from qmodels.quantize.layerwise import LayerwiseConfig
from qmodels.quantize.limits import limits
from qmodels.quantize.uniform import Clip, choose_format, snap
from qmodels.quantize.weights import (
    MAX_GRID_BITS,
    CodebookConfig,
    Granularity,
    Method,
    WeightCode,
    WeightConfig,
)
from qmodels.runtime import copy_model, runtime

#: Layers that only move or compare values: they keep every format and need no quantizer.
TRANSPARENT = (
    "InputLayer",
    "MaxPooling1D",
    "MaxPooling2D",
    "GlobalMaxPooling2D",
    "Flatten",
    "Reshape",
    "Dropout",
    "QActivation",
)
#: Layers that add up: the accelerator carries every bit of the result, and the ReLU behind them rounds it.
SUMMING = ("Add", "AveragePooling2D", "GlobalAveragePooling2D")
BATCH = 500  # images that are calibrated on together
MAX_CALIBRATION_VALUES = 1 << 27  # activations held at once
NARROW = 8  # bits of weights and activations whose products float32 adds up exactly
MAX_BIAS_FRACTION = 14  # a finer bias would only widen the accumulator
Probe = Callable[[Values], list[NDArray[Any]]]  # images -> values of some layers


class LayerOverride(BaseModel):
    """What one layer has otherwise than the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method | None = None
    weight_bits: int | None = Field(None, ge=2, le=16)
    granularity: Granularity | None = None
    clip: Clip | None = None
    codebook: CodebookConfig | None = None
    activation_bits: int | None = Field(None, ge=2, le=8, description="of a ReLU, by its own name")


class QuantizationConfig(WeightConfig):
    """Weights, biases and activations. Activation formats are calibrated on training images."""

    bias_bits: int = Field(8, ge=2, le=16)
    activation_bits: int = Field(8, ge=2, le=16, description="above 8 the model is computed in float64")
    calibration_samples: int = Field(1000, ge=1, description="training images used to choose activation formats")
    layers: dict[str, LayerOverride] = Field(
        {}, description="layer name: settings of its weights that differ; name of a ReLU: its activation_bits"
    )
    layerwise: LayerwiseConfig | None = Field(None, description="choose every layer's weight code under a budget")

    @property
    def has_wide_sums(self) -> bool:
        """Whether sums of products need more than the 24 bits of float32; narrower ones seldom do."""
        weight_bits = max([self.weight_bits, *(layer.weight_bits or 0 for layer in self.layers.values())])
        return self.activation_bits > NARROW or weight_bits + self.activation_bits > 2 * NARROW

    def of_layer(self, name: str) -> WeightConfig:
        """How the kernel of that layer is rounded."""
        override = self.layers.get(name, LayerOverride())
        changed = {key: value for key in WeightConfig.model_fields if (value := getattr(override, key)) is not None}
        common = {key: getattr(self, key) for key in WeightConfig.model_fields}
        return WeightConfig.model_validate(common | changed)

    def of_activation(self, name: str) -> int:
        """Bits of the ReLU of that name."""
        return self.layers.get(name, LayerOverride()).activation_bits or self.activation_bits


@dataclass(frozen=True)
class LayerFormats:
    """The formats chosen for one layer, and what rounding its kernel cost."""

    layer: str
    weight: FixedPoint | None  # the hardware's type: with steps per channel or a codebook wider than the code
    bias: FixedPoint | None
    activation: FixedPoint | None
    distinct_weights: int = 0
    relative_error: float = 0.0  # ||Q(W) - W|| / ||W||, Frobenius
    code: WeightCode | None = None
    stored_bits: int = 0  # of the kernel: codes, channels' exponents, codebook

    def as_json(self) -> dict[str, Any]:
        """Plain values; formats as `fixed<3,0,RND_CONV,SAT>`."""
        formats = {"weight": self.weight, "bias": self.bias, "activation": self.activation}
        plain = {name: str(fmt) if fmt else None for name, fmt in formats.items()}
        return {"layer": self.layer, **plain} | {
            "distinct_weights": self.distinct_weights,
            "relative_error": self.relative_error,
            "stored_bits": self.stored_bits,
            "code": self.code.as_json() if self.code is not None else None,
        }

    def as_row(self) -> dict[str, Any]:
        """The same for a table: the code in a few words."""
        row = self.as_json()
        del row["code"]
        words: dict[str, Any] = {"method": None, "bits": None, "step": None, "levels": None}
        if self.code is not None:
            steps = [f"2^{int(np.log2(step))}" for step in (self.code.step.max(), self.code.step.min())]
            words = {
                "method": self.code.method,
                "bits": self.code.bits,
                "step": " .. ".join(dict.fromkeys(steps)),
                "levels": len(self.code.levels) if self.code.contiguous else " ".join(map(str, self.code.levels[:64])),
            }
        return {"layer": self.layer, **words, **row}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> LayerFormats:
        """Inverse of `as_json`.

        Raises:
            ValueError: a format or code is not such.
        """
        weight, bias, activation = (
            FixedPoint.parse(plain[key]) if plain[key] else None for key in ("weight", "bias", "activation")
        )
        code = WeightCode.from_json(plain["code"]) if plain["code"] is not None else None
        distinct, error = plain["distinct_weights"], plain["relative_error"]
        return cls(plain["layer"], weight, bias, activation, distinct, error, code, plain["stored_bits"])


@dataclass(frozen=True)
class QuantizedModel:
    """A QKeras model and the formats in it."""

    model: Any
    formats: tuple[LayerFormats, ...]


def quantize_model(
    float_model: Any,
    config: QuantizationConfig,
    calibration: Values,
    *,
    grid: InputGrid = IMAGE_GRID,
    formats: Mapping[str, LayerFormats] | None = None,
) -> QuantizedModel:
    """Post-training quantization of a float Keras model into a QKeras model.

    Args:
        float_model: starts with a linear activation named `input_grid`, ends in logits.
        config: bits and clipping.
        calibration: values (N, ...) of training inputs; never of validation or test inputs.
        grid: what inputs can be; the layer `input_grid` rounds to its format.
        formats: layer name -> formats that were chosen before, by quantization-aware training or layer by layer;
            what is None in them, and all other layers' formats, are chosen here.

    Raises:
        UserError: a layer has no quantized twin.
    """
    check_quantizable(float_model)
    check_layers(float_model, config)
    float_model = fold_batch_norm(float_model)
    given = formats or {}
    rounded, weights = _round_weights(float_model, config, given)
    activations = {name: item for name, item in given.items() if item.activation is not None}
    if any(_is_relu(layer) and layer.name not in activations for layer in rounded.layers):
        activations = _calibrate(rounded, config, calibration[: config.calibration_samples]) | activations
    chosen = weights | activations
    model = runtime().keras.models.clone_model(float_model, clone_function=lambda layer: _twin(layer, chosen, grid))
    for layer in weighted_layers(rounded):
        model.get_layer(layer.name).set_weights(layer.get_weights())
    model._name = f"{float_model.name}_quantized"
    return QuantizedModel(model, tuple(chosen[layer.name] for layer in model.layers if layer.name in chosen))


def check_layers(model: Any, config: QuantizationConfig) -> None:
    """Raise UserError if `config.layers` names a layer that the model does not have, or sets what it does not have."""
    weighted = [layer.name for layer in weighted_layers(model)]
    relus = [layer.name for layer in model.layers if _is_relu(layer)]
    for name, own in config.layers.items():
        if name not in (*weighted, *relus):
            raise UserError(
                f"quantization.layers: {name!r} is no layer with weights and no ReLU"
                + allowed_names(name, [*weighted, *relus])
            )
        for key in own.model_dump(exclude_none=True):
            if (key == "activation_bits") != (name in relus):
                fitting = relus if key == "activation_bits" else weighted
                raise UserError(
                    f"quantization.layers.{name}.{key}: has no effect on this layer" + allowed_names(name, fitting)
                )


def check_quantizable(model: Any) -> None:
    """Raise UserError naming the first layer of a float model that has no quantized twin."""
    if INPUT_GRID not in {layer.name for layer in model.layers}:
        raise UserError(
            f"model {model.name}: no layer named {INPUT_GRID!r}; start the float model with "
            f"Activation('linear', name='{INPUT_GRID}') directly after its Input"
        )
    for limit in limits(model):
        raise UserError(f"model {model.name}: layer {limit.layer!r}: {limit.problem}; {limit.fix}")
    for layer in unrounded_averages(model, _is_relu):
        raise UserError(
            f"model {model.name}: layer {layer.name!r} ({type(layer).__name__}) divides by no power of two; "
            f"put a ReLU behind it, where the quotient will be rounded"
        )
    norms = foldable_norms(model)
    for layer in model.layers:
        kind = type(layer).__name__
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        is_relu = kind == "ReLU" or (kind == "Activation" and activation == "relu")
        is_exact = kind in (*TRANSPARENT, *SUMMING) or layer.name == INPUT_GRID or layer.name in norms
        if is_relu or is_exact or (kind in WEIGHTED and activation == "linear"):
            continue
        raise UserError(
            f"model {model.name}: layer {layer.name!r} ({kind}, activation {activation}) cannot be quantized; "
            f"allowed: {', '.join(WEIGHTED)} without activation, ReLU, {', '.join(TRANSPARENT + SUMMING)}, "
            f"BatchNormalization, logits as output"
        )


def _round_weights(
    model: Any, config: QuantizationConfig, given: Mapping[str, LayerFormats]
) -> tuple[Any, dict[str, LayerFormats]]:
    """A float copy of the model whose kernels and biases hold only representable values."""
    rounded = copy_model(model)
    formats: dict[str, LayerFormats] = {}
    for layer in weighted_layers(rounded):
        formats[layer.name] = round_layer(layer, config, given.get(layer.name))
    return rounded, formats


def round_layer(layer: Any, config: QuantizationConfig, given: LayerFormats | None = None) -> LayerFormats:
    """Round one float layer's kernel and bias in place; its formats, those that are `given` among them."""
    kernel = kernel_of(layer)
    original = kernel.numpy().astype(np.float64)
    code = given.code if given is not None else None
    if code is None:
        code = fit_code(original, config.of_layer(layer.name), depthwise=is_depthwise(layer))
    values = code.round(original)
    kernel.assign(values.astype(np.float32))
    error = float(np.linalg.norm(values - original)) / max(float(np.linalg.norm(original)), 1e-12)
    return LayerFormats(
        layer.name,
        code.hardware,
        _round_bias(layer, config.bias_bits, given.bias if given is not None else None),
        None,
        len(np.unique(values)),
        error,
        code,
        code.stored_bits(values.size),
    )


def _round_bias(layer: Any, bits: int, given: FixedPoint | None) -> FixedPoint | None:
    if not layer.use_bias:
        return None
    bias = layer.bias.numpy().astype(np.float64)
    fmt = given or choose_format(bias, bits, "max")
    if given is None and fmt.fraction > MAX_BIAS_FRACTION:
        fmt = fmt._replace(integer=bits - MAX_BIAS_FRACTION)
    layer.bias.assign(snap(bias, fmt).astype(np.float32))
    return fmt


def _calibrate(model: Any, config: QuantizationConfig, images: Values) -> dict[str, LayerFormats]:
    """The format of every ReLU's output, from its values on training images (least squared error)."""
    formats: dict[str, LayerFormats] = {}
    for names, probe in relu_probes(model, len(images)):
        for name, value in zip(names, probe(images), strict=True):
            formats[name] = relu_formats(name, value, config)
    return formats


def relu_formats(name: str, values: NDArray[Any], config: QuantizationConfig) -> LayerFormats:
    """The format of one ReLU for the values it gives."""
    fmt = choose_format(values, config.of_activation(name), config.clip, signed=False)
    # quantized_relu cannot have negative integer bits; hls4ml does not round without a fractional one
    fmt = fmt._replace(integer=min(max(fmt.integer, 0), fmt.width - 1))
    return LayerFormats(name, None, None, fmt)


def relu_probes(model: Any, count: int) -> Iterator[tuple[tuple[str, ...], Probe]]:
    """Functions that give the values of ReLUs, and whose; as many at once as fit into memory for `count` images."""
    relus = [layer for layer in model.layers if _is_relu(layer)]
    while relus:
        sizes = np.cumsum([prod(layer.output.shape[1:]) * count for layer in relus])
        now = relus[: max(1, int(np.sum(sizes <= MAX_CALIBRATION_VALUES)))]
        yield tuple(layer.name for layer in now), _forward(model, [layer.output for layer in now])
        relus = relus[len(now) :]


def _forward(model: Any, tensors: list[Any]) -> Probe:
    """As Keras' `predict` computes it, without the tenth of a second that it takes to begin."""
    tf, inner = runtime().tf, runtime().keras.Model(model.input, tensors)
    step = tf.function(lambda values: inner(values, training=False), reduce_retracing=True, autograph=False)

    def outputs(images: Values) -> list[NDArray[Any]]:
        batches = [step(tf.constant(images[first : first + BATCH])) for first in range(0, len(images), BATCH)]
        columns = zip(*batches, strict=True) if len(tensors) > 1 else [batches]
        return [np.concatenate([part.numpy() for part in column]) for column in columns]

    return outputs


def _is_relu(layer: Any) -> bool:
    return type(layer).__name__ == "ReLU" or (
        type(layer).__name__ == "Activation" and layer.name != INPUT_GRID and layer.activation.__name__ == "relu"
    )


def input_quantizer(fmt: FixedPoint) -> str:
    """The QKeras quantizer that is the identity on an input format; UserError as for `input_bits`."""
    return "quantized_bits({}, {}, alpha=1)".format(*input_bits(fmt))


def input_bits(fmt: FixedPoint) -> tuple[int, int]:
    """Bits and integer bits of a `quantized_bits` whose grid has the format's step and holds all its numbers.

    It is signed, as `bit_exact` needs it. QKeras has no negative integer bits, and hls4ml rounds only where there is a
    fractional bit; neither makes the grid smaller than the format.

    Raises:
        UserError: float32 does not hold such numbers.
    """
    integer, fraction = max(fmt.integer - fmt.signed, 0), max(fmt.fraction, 1)
    width = integer + fraction + 1
    if width > MAX_GRID_BITS + 1:
        raise UserError(
            f"input format {fmt}: its quantizer would have {width} bits, and float32 holds {MAX_GRID_BITS} and a sign; "
            "use a narrower format"
        )
    return width, integer


def _twin(layer: Any, formats: dict[str, LayerFormats], grid: InputGrid) -> Any:
    """The QKeras layer that stands for a Keras layer."""
    qkeras = runtime().qkeras
    if layer.name == INPUT_GRID:
        return qkeras.QActivation(input_quantizer(grid.format), name=layer.name)
    if _is_relu(layer):
        fmt = formats[layer.name].activation
        assert fmt is not None  # set for every ReLU by _calibrate
        return qkeras.QActivation(f"quantized_relu({fmt.width}, {fmt.integer})", name=layer.name)
    kind = type(layer).__name__
    if kind not in WEIGHTED:
        return type(layer).from_config(layer.get_config())
    chosen = formats[layer.name]
    kernel = "depthwise_quantizer" if kind == "DepthwiseConv2D" else "kernel_quantizer"
    quantizers = {kernel: _grid(chosen.weight), "bias_quantizer": _grid(chosen.bias)}
    config = {
        key: value for key, value in layer.get_config().items() if key not in ("activation", "trainable", "dtype")
    }
    return getattr(qkeras, f"Q{kind}")(**config, **{key: q for key, q in quantizers.items() if q is not None})


def _grid(fmt: FixedPoint | None) -> Any:
    """`quantized_bits` whose grid contains all of `fmt`: the same step, at least zero integer bits."""
    if fmt is None:
        return None
    integer = max(fmt.integer - 1, 0)  # QKeras does not count the sign
    bits = max(integer + fmt.fraction + 1, 2)
    if bits > MAX_GRID_BITS:
        raise UserError(f"weights in {fmt} are too small or too wide for exact float32 arithmetic; rescale the layer")
    return runtime().qkeras.quantized_bits(bits, integer, alpha=1)
