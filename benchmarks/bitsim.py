"""bitsim against everything else that computes the same network, on this machine.

Peers: hls4ml's C simulation, the quantized QKeras model's predict, float Keras, TFLite int8 with XNNPACK, alkaid's
interpreter, and the machine's own peak. Weights are random (seeded); activation formats are calibrated so that
numbers use their bits.

    python benchmarks/bitsim.py [--quick] [--json OUT] [--plot OUT.png]
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report, interleave, parser  # noqa: E402
from hw.bitsim import BitSim, library  # noqa: E402
from qmodels.runtime import runtime, set_seed  # noqa: E402

Images = NDArray[np.float32]


# -- models


class Net:
    """Builds a float Keras model and its QKeras twin layer by layer, choosing activation ranges from data."""

    def __init__(self, shape: tuple[int, int, int], alpha: float = 1.0, weight_bits: int = 3, activation_bits: int = 6) -> None:
        keras = runtime().keras
        self.keras, self.qkeras = keras.layers, runtime().qkeras
        self.alpha = alpha  # a power of two: the scale of the weights
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.rng = np.random.default_rng(1)
        self.sample = self.rng.integers(0, 256, (64, *shape)).astype(np.float32) / 256
        self.input = keras.Input(shape, name="image")
        self.count = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def grid(self) -> Any:
        """The input on its grid: 8-bit pixels and a sign, as the exactness contract asks."""
        return self.qkeras.QActivation(self.qkeras.quantized_bits(9, 0, alpha=1), name="grid")(self.input)

    def _weighted(self, layer: Any, x: Any) -> Any:
        y = layer(x)
        kernel, bias = layer.get_weights()
        layer.set_weights([self.rng.normal(size=kernel.shape) * 0.35 * self.alpha, self.rng.normal(size=bias.shape) * 0.1])
        return y

    def conv(self, x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
        bits = self.qkeras.quantized_bits
        layer = self.qkeras.QConv2D(
            filters, size, stride, "same", name=self.name("conv"), kernel_quantizer=bits(self.weight_bits, 0, alpha=self.alpha),
            bias_quantizer=bits(8, 1, alpha=1),
        )
        return self._weighted(layer, x)

    def dense(self, x: Any, units: int) -> Any:
        bits = self.qkeras.quantized_bits
        layer = self.qkeras.QDense(
            units, name=self.name("fc"), kernel_quantizer=bits(self.weight_bits, 0, alpha=self.alpha),
            bias_quantizer=bits(8, 1, alpha=1),
        )
        return self._weighted(layer, x)

    def relu(self, x: Any) -> Any:
        """quantized_relu with integer bits for the 99th percentile."""
        seen = runtime().keras.Model(self.input, x).predict(self.sample, verbose=0)
        top = float(np.percentile(seen, 99.5))
        integer = int(np.clip(np.ceil(np.log2(max(top, 0.1))), 0, self.activation_bits - 1))
        quantizer = self.qkeras.quantized_relu(self.activation_bits, integer)
        return self.qkeras.QActivation(quantizer, name=self.name("relu"))(x)

    def model(self, x: Any) -> Any:
        return runtime().keras.Model(self.input, x)


def mnist_cnn() -> Any:
    """28x28, 91,196 multiply-adds: two strided convolutions, pooling, two dense layers."""
    net = Net((28, 28, 1))
    layers = net.keras
    x = net.relu(net.conv(net.grid(), 8, 3, 2))
    x = net.relu(net.conv(x, 16, 3, 2))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    return net.model(net.dense(net.relu(net.dense(x, 134)), 10))


def resnet8() -> Any:
    """MLPerf Tiny's ResNet-8 for CIFAR-10: 12.5 million multiply-adds. Batch normalization is folded away."""
    net = Net((32, 32, 3), alpha=0.25)
    layers = net.keras
    x = net.relu(net.conv(net.grid(), 16))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv(net.relu(net.conv(x, filters, 3, stride)), filters)
        short = x if stride == 1 else net.conv(x, filters, 1, stride)
        x = net.relu(layers.Add(name=net.name("add"))([y, short]))
    x = layers.AveragePooling2D(8, name="pool")(x)
    return net.model(net.dense(layers.Flatten(name="flatten")(x), 10))


def small_cnn() -> Any:
    """16x16, 44 thousand multiply-adds: small enough for alkaid to unroll."""
    net = Net((16, 16, 1))
    layers = net.keras
    x = net.relu(net.conv(net.grid(), 8, 3, 2))
    x = layers.MaxPooling2D(2, name="pool1")(net.relu(net.conv(x, 8, 3, 1)))
    x = layers.Flatten(name="flatten")(x)
    return net.model(net.dense(net.relu(net.dense(x, 16)), 10))


def multiply_adds(model: Any) -> int:
    """Of one sample, zero padding counted as Keras does the layer."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            outputs = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) > 2 else 1
            total += int(np.prod(kernel.shape)) * outputs
    return total


def to_graph(model: Any, folder: Path, stream: bool) -> Any:
    """hls4ml's graph, exact, without writing it."""
    from hw.project import legacy_keras

    with legacy_keras(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        config = config_from_keras_model(model, granularity="name", backend="Vitis")
        return convert_from_keras_model(
            model, hls_config=config, backend="Vitis", io_type="io_stream" if stream else "io_parallel",
            output_dir=str(folder), bit_exact=True, part="xcu250-figd2104-2L-e",
        )


def images(model: Any, n: int, seed: int = 5) -> Images:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *model.input.shape[1:])).astype(np.float32) / 256
