"""Random QKeras models of the layers whose gradients are computed in integers."""

from __future__ import annotations

import numpy as np

from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.runtime import runtime, set_seed

SIGNED_GRID = InputGrid(FixedPoint(12, 5))


def quantizers(bits, seed):
    q, keras = runtime().qkeras, runtime().keras
    return {
        "kernel_quantizer": q.quantized_bits(bits, 0, alpha=1),
        "bias_quantizer": q.quantized_bits(bits + 5, 1, alpha=1),
        "kernel_initializer": keras.initializers.RandomUniform(-0.9, 0.9, seed=seed),
        "bias_initializer": keras.initializers.RandomUniform(-0.5, 0.5, seed=seed + 1),
    }


class RandomNetwork:
    """A QKeras model of layers that are covered, chosen at random, and its grid."""

    def __init__(self, seed):
        self.rng, self.q, self.keras = np.random.default_rng(seed), runtime().qkeras, runtime().keras
        set_seed(seed)
        self.grid = SIGNED_GRID if self.rng.random() < 0.3 else IMAGE_GRID
        kind = self.rng.integers(5)
        sizes = {0: ((3,), (40,)), 1: ((8, 1), (30, 5))}.get(int(kind), ((6, 6, 1), (12, 12, 5)))
        inputs = self.keras.Input(self._numbers(*sizes))
        x = (self._vector, self._sequence, self._picture)[len(inputs.shape) - 2](inputs)
        if self.rng.random() < 0.7:
            x = self._relu(self.q.QDense(int(self.rng.integers(2, 20)), **self._weights())(x))
        self.model = self.keras.Model(inputs, self.q.QDense(int(self.rng.integers(2, 6)), **self._weights())(x))

    def _numbers(self, low, high):
        return tuple(int(number) for number in self.rng.integers(low, high))

    def _weights(self):
        return quantizers(int(self.rng.integers(2, 7)), int(self.rng.integers(10**6)))

    def _relu(self, x):
        bits, integer = self._numbers((3, 1), (9, 5))
        return self.q.QActivation(f"quantized_relu({bits},{integer})")(x)

    def _conv(self, x, filters, size, stride, padding):
        return self.q.QConv2D(filters, size, strides=stride, padding=padding, **self._weights())(x)

    def _vector(self, x):
        return x

    def _sequence(self, x):
        (size, stride), layers = self._numbers((1, 1), (5, 3)), self.keras.layers
        x = self._relu(self.q.QConv1D(6, size, strides=stride, padding="same", **self._weights())(x))
        if self.rng.random() < 0.5:
            x = layers.MaxPooling1D(2)(x)
        return layers.GlobalAveragePooling1D()(x) if x.shape[1] in (4, 8, 16) else layers.Flatten()(x)

    def _picture(self, x):
        if self.grid is IMAGE_GRID:
            x = self.q.QActivation("quantized_bits(9,0,alpha=1)")(x)
        for _ in range(self.rng.integers(1, 4)):
            x = self._stage(x)
        if self.rng.random() < 0.3 and x.shape[1] == x.shape[2] and x.shape[1] in (2, 4):
            x = self.keras.layers.AveragePooling2D(x.shape[1])(x)
        return self.keras.layers.Flatten()(x)

    def _stage(self, x):
        kind, small = self.rng.integers(4), min(x.shape[1:3])
        if kind == 0 and small >= 2 and x.shape[-1] > 4:
            return self.keras.layers.MaxPooling2D(2)(x)
        # Rows and columns alike in a stride: TensorFlow 2.21 computes some convolutions of one channel wrongly else.
        size, stride = self._numbers((1, 1), (4, 4)), int(self.rng.integers(1, 4))
        if kind == 1 and x.shape[-1] > 4:
            branch = self._conv(self._relu(self._conv(x, 5, size, 1, "same")), x.shape[-1], 3, 1, "same")
            return self._relu(self.keras.layers.Add()([x, branch]))
        padding = "same" if small < 3 or self.rng.random() < 0.5 else "valid"
        return self._relu(self._conv(x, int(self.rng.integers(1, 10)), size, stride, padding))
