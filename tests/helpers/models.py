"""Tiny models and data that many tests share."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hw.generate.hardware import HardwareConfig
from qmodels.architectures import ModelConfig, build_float
from qmodels.data import Dataset, load_data
from qmodels.grid import IMAGE_GRID, Codes, Values
from qmodels.quantize.model import QuantizationConfig, QuantizedModel, quantize_model
from qmodels.runtime import runtime

HARDWARE = HardwareConfig()
STREAM = HardwareConfig(io_type="io_stream")
BITS = QuantizationConfig(weight_bits=3, activation_bits=5, calibration_samples=200)


class Toolbox:
    """A small trained CNN on digits, quantized; made when first asked for, then never changed."""

    @cached_property
    def data(self) -> Dataset:
        """Digits, 400 training and 80 test images."""
        return load_data("digits", seed=0, limit_train=400, limit_test=80)

    @cached_property
    def float_model(self) -> Any:
        """cnn4 with two and four filters, trained for a moment: its weights and biases are no longer initial."""
        keras = runtime().keras
        model = build_float(ModelConfig(filters=(2, 4), hidden=(8,)), self.data.input_shape, self.data.classes, seed=0)
        model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(self.data.train.values, self.data.train.y, epochs=3, batch_size=40, verbose=0)
        return model

    @cached_property
    def quantized(self) -> QuantizedModel:
        """Its 3-bit twin."""
        return quantize_model(self.float_model, BITS, self.data.train.values)


def grid_codes(count: int, shape: tuple[int, ...] = (8, 8, 1), seed: int = 0) -> Codes:
    """Random device inputs."""
    return IMAGE_GRID.random(count, shape, np.random.default_rng(seed))


def grid_images(count: int, shape: tuple[int, ...] = (8, 8, 1), seed: int = 0) -> Values:
    """The values of random device inputs."""
    return IMAGE_GRID.to_values(grid_codes(count, shape, seed))


def qkeras_model(*body: Any, shape: tuple[int, ...] = (4, 4, 1), classes: int = 3, **last: Any) -> Any:
    """input grid, flatten, `body`, QDense: what a user brings along. `last` overrides settings of the QDense."""
    q, keras = runtime().qkeras, runtime().keras
    settings = {"name": "logits", **weight_quantizers(), **last}
    image = keras.Input(shape, name="image")
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
    x = keras.layers.Flatten(name="flatten")(x)
    for layer in body:
        x = layer(x)
    return keras.Model(image, q.QDense(classes, **settings)(x), name="own")


def weight_quantizers(bits: int = 4) -> dict[str, Any]:
    """Quantizers that fulfil the contract."""
    q = runtime().qkeras
    return {
        "kernel_quantizer": q.quantized_bits(bits, 0, alpha=1),
        "bias_quantizer": q.quantized_bits(bits, 0, alpha=1),
    }


def outputs_and_gradient(model: Any, x: Values) -> tuple[Values, Values]:
    """A Keras model's logits (N, classes), and the gradient (N, ...) of its first logit less its second."""
    tf = runtime().tf
    image = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(image)
        logits = model(image, training=False)
        loss = tf.reduce_sum(logits[:, 0] - logits[:, 1])
    return logits.numpy(), tape.gradient(loss, image).numpy()


def write_data(path: Path, seed: int = 0) -> None:
    """Sixty 4x4 training images of three classes and twelve test images, learnable: a bright row tells the class."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", 60), ("test", 12)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 128, (count, 4, 4), dtype=np.uint8)
        images[np.arange(count), labels] += 127
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **arrays)


#: The batch-normalized architectures, small enough to compile in seconds: all their layers, few filters.
SMALL = {
    "resnet8": ModelConfig(architecture="resnet8", width=0.25),
    "mobilenet_v1_025": ModelConfig(architecture="mobilenet_v1_025", width=0.25),
    "wrn32": ModelConfig(architecture="wrn32", width=0.125),
}
SMALL_BITS = QuantizationConfig(weight_bits=4, activation_bits=8, calibration_samples=200)


def normalised(config: ModelConfig, shape: tuple[int, ...] = (8, 8, 1), classes: int = 10, seed: int = 0) -> Any:
    """A float model whose batch normalizations have scales and shifts, and the statistics of bright and dark noise."""
    model, rng = build_float(config, shape, classes, seed), np.random.default_rng(seed)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
        layer.beta.assign(rng.uniform(-0.3, 0.3, layer.beta.shape))
        layer.momentum = 0.0  # the statistics are those of the last batch
    model(grid_images(64, shape, seed) * np.linspace(0, 1, 64, dtype=np.float32)[:, None, None, None], training=True)
    return model


def far_from_zero() -> Any:
    """A small QKeras model whose sums are far from zero."""
    hidden = runtime().qkeras.QDense(4, name="hidden", **weight_quantizers())
    model, rng = qkeras_model(hidden), np.random.default_rng(0)
    for name in ("hidden", "logits"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([rng.choice([-0.5, 0.5], kernel.shape), bias + 0.5])
    return model
