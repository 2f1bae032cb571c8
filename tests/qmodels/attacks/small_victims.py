"""Small digits models for the attack tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qmodels.data import Dataset, load_data
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.runtime import runtime, set_seed
from qmodels.victims import Logits, Victim

EPSILON = {"linf": 24.0, "l2": 120.0}  # LSBs: enough to break about half of the digits


def digits() -> Dataset:
    """scikit-learn's 8x8 digits on the input grid."""
    return load_data("digits", seed=0)


def float_model(data: Dataset, hidden: int = 32, seed: int = 0) -> Any:
    """Dense - dense, logits out, trained."""
    layers = runtime().keras.layers
    set_seed(seed)
    image = layers.Input((8, 8, 1))
    x = layers.Dense(hidden, activation="relu", name="fc1")(layers.Flatten()(image))
    return _train(runtime().keras.Model(image, layers.Dense(10, name="logits")(x)), data)


def quantized_model(data: Dataset, bits: int = 4, seed: int = 0) -> Any:
    """Convolution - dense in QKeras, trained."""
    q, layers = runtime().qkeras, runtime().keras.layers
    set_seed(seed)

    def quantizers() -> dict[str, Any]:
        kernel, bias = q.quantized_bits(bits, 0, alpha=1), q.quantized_bits(8, 2, alpha=1)
        return {"kernel_quantizer": kernel, "bias_quantizer": bias}

    image = layers.Input((8, 8, 1))
    x = q.QActivation("quantized_bits(9,0,alpha=1)", name="input_grid")(image)
    x = q.QConv2D(6, 3, strides=2, padding="same", name="conv", **quantizers())(x)
    x = q.QActivation("quantized_relu(6,2)", name="relu")(x)
    x = q.QDense(10, name="logits", **quantizers())(layers.Flatten()(x))
    return _train(runtime().keras.Model(image, x), data)


def _train(model: Any, data: Dataset) -> Any:
    keras = runtime().keras
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.train.values, data.train.y, epochs=15, batch_size=100, verbose=0)
    return model


@dataclass
class OutputsOnly:
    """Stands for the accelerator: logits and nothing else."""

    inner: Victim
    name: str = "bitsim"
    grid: InputGrid = IMAGE_GRID

    def logits(self, x: Codes) -> Logits:
        return self.inner.logits(x)


@dataclass
class Broken:
    """Answers NaN for the images whose first pixel is odd."""

    inner: Victim
    name: str = "bitsim"
    grid: InputGrid = IMAGE_GRID

    def logits(self, x: Codes) -> Logits:
        logits = self.inner.logits(x).copy()
        logits[x.reshape(len(x), -1)[:, 0] % 2 == 1] = np.nan
        return logits
