"""What the attack benchmark attacks: short-trained QKeras models, the images they get right, and their simulators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qmodels.architectures import ModelConfig, build_float
from qmodels.data import load_data
from qmodels.errors import RobustHlsError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.prequantized import prequantize
from qmodels.runtime import runtime, set_seed
from qmodels.victims import Labels, Victim


@dataclass(frozen=True)
class Subject:
    """A quantized model, the images it gets right, their labels."""

    name: str
    model: Any
    x: Codes
    y: Labels
    grid: InputGrid = IMAGE_GRID

    @cached_property
    def folded(self) -> Any:
        """The prequantized view: the same bits, and several times faster. Ours and the libraries' attacks get it."""
        return prequantize(self.model)

    def first(self, count: int) -> Subject:
        """The same model with fewer images."""
        part = Subject(self.name, self.model, self.x[:count], self.y[:count], self.grid)
        part.__dict__["folded"] = self.folded  # made once: compiled loops belong to it
        return part


def tabular_subject(count: int) -> Subject:
    """scikit-learn's breast cancer data, standardized, on a signed grid; a QKeras MLP with 6-bit weights."""
    from sklearn.datasets import load_breast_cancer

    q, keras = runtime().qkeras, runtime().keras
    set_seed(0)
    data = load_breast_cancer()
    values = (data.data - data.data.mean(0)) / data.data.std(0)
    grid = InputGrid(FixedPoint(12, 5))
    x, y = grid.to_codes(values), data.target.astype(np.int64)
    x = x[order := np.random.default_rng(0).permutation(len(x))]
    y = y[order]
    bits = {"kernel_quantizer": "quantized_bits(6,0,alpha=1)", "bias_quantizer": "quantized_bits(6,0,alpha=1)"}
    inputs = keras.Input((x.shape[1],))
    h = q.QActivation("quantized_bits(12,4,alpha=1)")(inputs)
    h = q.QActivation("quantized_relu(8,3)")(q.QDense(16, **bits)(h))
    model = keras.Model(inputs, q.QDense(2, **bits)(h), name="tabular")
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(grid.to_values(x), y, epochs=20, batch_size=32, verbose=0)
    return only_right("tabular", model, x, y, count, grid)


def trained(architecture: str, count: int, **sizes: Any) -> Subject:
    """mlp or cnn4 on MNIST, 3-bit weights, after a short training."""
    keras = runtime().keras
    train_x, train_y, test_x, test_y = digits_of_any_size()
    config = ModelConfig.model_validate({"architecture": architecture, **sizes})
    model = build_float(config, train_x.shape[1:], 10, seed=0)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    values = IMAGE_GRID.to_values(train_x[:10000])
    model.fit(values, train_y[:10000], epochs=2, batch_size=100, verbose=0)
    quantized = quantize_model(model, QuantizationConfig(weight_bits=3), values[:1000]).model
    return only_right(architecture, quantized, test_x, test_y, count)


def digits_of_any_size() -> tuple[Codes, Labels, Codes, Labels]:
    """MNIST, or the 8x8 digits enlarged to 28x28."""
    try:
        data = load_data("mnist", seed=0)
        return data.train.x, data.train.y, data.test.x, data.test.y
    except RobustHlsError:
        data = load_data("digits", seed=0)
        train, test = (
            np.pad(s.x.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2), (0, 0)))
            for s in (data.train, data.test)
        )
        return train, data.train.y, test, data.test.y


def resnet8(count: int) -> Subject:
    """ResNet-8 for 32x32x3 with 3-bit weights; random weights and images, its own answers as labels."""
    q, keras = runtime().qkeras, runtime().keras
    set_seed(0)

    def quantizers() -> dict[str, Any]:
        return {
            "kernel_quantizer": q.quantized_bits(3, 0, alpha=1),
            "bias_quantizer": q.quantized_bits(8, 2, alpha=1),
            "kernel_initializer": keras.initializers.RandomNormal(stddev=0.25, seed=int(rng.integers(10**6))),
        }

    def conv(x: Any, filters: int, size: int, stride: int) -> Any:
        return q.QConv2D(filters, size, strides=stride, padding="same", **quantizers())(x)

    def relu(x: Any) -> Any:
        return q.QActivation("quantized_relu(8,4)")(x)

    rng = np.random.default_rng(0)
    image = keras.Input((32, 32, 3))
    x = relu(conv(q.QActivation("quantized_bits(9,0,alpha=1)")(image), 16, 3, 1))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        branch = conv(relu(conv(x, filters, 3, stride)), filters, 3, 1)
        x = relu(keras.layers.Add()([conv(x, filters, 1, stride) if stride > 1 else x, branch]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(x))
    model = keras.Model(image, q.QDense(10, **quantizers())(x), name="resnet8")
    images = IMAGE_GRID.random(count, (32, 32, 3), rng)
    answers = model.predict(IMAGE_GRID.to_values(images), verbose=0).argmax(axis=1)
    return Subject("resnet8", model, images, answers.astype(np.int64))


def only_right(name: str, model: Any, x: Codes, y: Labels, count: int, grid: InputGrid = IMAGE_GRID) -> Subject:
    """The first `count` images that the model gets right."""
    values = grid.to_values(x[: 3 * count + 50])
    right = np.flatnonzero(model.predict(values, verbose=0).argmax(axis=1) == y[: 3 * count + 50])[:count]
    return Subject(name, model, x[right], y[right], grid)


def accelerators(model: Any) -> tuple[Victim, Victim]:
    """bitsim and hls4ml's C simulation of the same model."""
    from hw import Accelerator

    accelerator = Accelerator(model)
    return accelerator.bitsim, accelerator.csim
