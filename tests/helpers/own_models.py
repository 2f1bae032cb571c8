"""Models of the kinds that people bring: how their authors write them, not how we would. Small, and built from nothing.

Each stands for a kind of file that is found in public: shapes, quantizers, heads and names as in tutorials and
published networks. `KINDS` has them all; `build` gives the model, `store` a file of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from helpers.conversion import spread

from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.runtime import runtime

Want = Literal["use", "message"]
Build = Callable[[Any, Any], Any]  # (tf_keras.layers, qkeras) -> model
Save = Callable[[Any, Path], Path]  # the model's file, in a folder

#: Standardized features and audio samples; 8-bit images are `IMAGE_GRID`.
FEATURES = InputGrid(FixedPoint(12, 4, signed=True))
BYTES = InputGrid(FixedPoint(8, 8, signed=False))


@dataclass(frozen=True)
class Kind:
    """One kind of model: what it is, what its inputs are, and whether its owner wants a run or a good message."""

    name: str
    build: Build
    grid: InputGrid
    want: Want
    save: Save


KINDS: dict[str, Kind] = {}


def kind(grid: InputGrid = IMAGE_GRID, *, want: Want = "use", save: Save | None = None) -> Callable[[Build], Build]:
    """Put a builder among the kinds, under its own name."""

    def register(build: Build) -> Build:
        name = build.__name__
        KINDS[name] = Kind(name, build, grid, want, save or _h5)
        return build

    return register


def build(name: str) -> Any:
    """A kind's model, with random weights."""
    return spread(KINDS[name].build(runtime().keras.layers, runtime().qkeras))


def store(name: str, folder: Path) -> Path:
    """A kind's model file, or folder."""
    return KINDS[name].save(build(name), folder)


def bits(width: int, integer: int = 0, **options: Any) -> Any:
    """quantized_bits with alpha=1 where nothing else is said."""
    return runtime().qkeras.quantized_bits(width, integer, **{"alpha": 1, **options})


def both(width: int, integer: int = 0, **options: Any) -> dict[str, Any]:
    """Kernel and bias quantizers of one layer."""
    return {"kernel_quantizer": bits(width, integer, **options), "bias_quantizer": bits(width, integer)}


def act(text: str) -> Any:
    """QActivation from a quantizer's text."""
    return runtime().qkeras.QActivation(text)


def chain(shape: tuple[int, ...], *layers: Any) -> Any:
    """A functional model of layers in a row."""
    keras = runtime().keras
    source = x = keras.Input(shape, name="features")
    for layer in layers:
        x = layer(x)
    return keras.Model(source, x, name="own")


def image(*middle: Any, shape: tuple[int, ...] = (8, 8, 1), **last: Any) -> Any:
    """Rounded pixels, something, flatten, five classes."""
    q = runtime().qkeras
    head = runtime().keras.layers.Flatten(), q.QDense(5, **{**both(6), **last})
    return chain(shape, act("quantized_bits(9, 0, alpha=1)"), *middle, *head)


# How they are stored


def _h5(model: Any, folder: Path) -> Path:
    model.save(folder / "own.h5", save_format="h5")
    return folder / "own.h5"


def _hdf5_named_keras(model: Any, folder: Path) -> Path:
    return _h5(model, folder).rename(folder / "own.keras")


def _json(model: Any, folder: Path) -> Path:
    (folder / "own.json").write_text(model.to_json())
    model.save_weights(folder / "own.weights.h5")
    return folder / "own.json"


def _saved_model(model: Any, folder: Path) -> Path:
    model.save(folder / "own", save_format="tf")
    return folder / "own"


def _not_finite(model: Any, folder: Path) -> Path:
    last = model.layers[-1]
    last.set_weights([weight * np.nan for weight in last.get_weights()])
    return _h5(model, folder)


def _keras3(model: Any, folder: Path) -> Path:
    """Written by Keras 3, in a process of its own."""
    text = (
        "import sys, keras\n"
        "x = keras.Input((16,))\n"
        "y = keras.layers.Dense(5)(keras.layers.Dense(8, activation='relu')(x))\n"
        "keras.Model(x, y).save(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", text, str(folder / "own.keras")], check=True, capture_output=True)
    return folder / "own.keras"


def _foreign_class(model: Any, folder: Path) -> Path:
    """An architecture with a layer of its author's own."""
    path = _json(model, folder)
    architecture = json.loads(path.read_text())
    architecture["config"]["layers"][-1] |= {
        "class_name": "MyDense",
        "module": "mine",
        "registered_name": "mine>MyDense",
    }
    path.write_text(json.dumps(architecture))
    return path


# Signed features


@kind(FEATURES)
def jet_tagger(layers: Any, q: Any) -> Any:
    """The tutorial's: no input quantizer, quantizer objects, a layer called output, softmax."""
    body: list[Any] = []
    for place, width in enumerate((64, 32, 32), 1):
        body += [
            q.QDense(width, **both(6), name=f"fc{place}"),
            q.QActivation(activation=q.quantized_relu(6), name=f"relu{place}"),
        ]
    return chain((16,), *body, q.QDense(5, **both(6), name="output"), layers.Activation("softmax", name="softmax"))


@kind(FEATURES)
def one_sigmoid(layers: Any, q: Any) -> Any:
    """Two classes from one output."""
    first = (
        act("quantized_bits(12, 3, alpha=1)"),
        q.QDense(16, **both(6)),
        act("quantized_relu(8, 3)"),
    )
    return chain((30,), *first, q.QDense(1, **both(6)), layers.Activation("sigmoid"))


@kind(FEATURES)
def regression(layers: Any, q: Any) -> Any:
    """One real output."""
    first = act("quantized_bits(12, 3, alpha=1)"), q.QDense(32, **both(8, 1))
    return chain((10,), *first, act("quantized_relu(10, 4)"), q.QDense(1, **both(8, 1)))


@kind(FEATURES)
def auto_encoder(layers: Any, q: Any) -> Any:
    """QDense, batch normalization, quantizer object; as many outputs as inputs."""
    body: list[Any] = []
    for width in (32, 8, 32):
        body += [q.QDense(width, **both(10)), layers.BatchNormalization(), q.QActivation(q.quantized_relu(10, 5))]
    return chain((64,), *body, q.QDense(64, **both(10, 2)))


@kind(FEATURES)
def ecg(layers: Any, q: Any) -> Any:
    """A sequence of samples; alpha="auto_po2" and symmetric weights."""
    body: list[Any] = []
    for filters in (8, 16):
        conv = q.QConv1D(filters, 5, **both(8, symmetric=1, alpha="auto_po2"))
        body += [conv, act("quantized_relu(8,0)"), layers.MaxPooling1D(2)]
    last = q.QDense(5, **both(8, symmetric=1, alpha="auto_po2"))
    return chain((64, 1), *body, layers.Flatten(), last, layers.Activation("softmax"))


@kind(FEATURES)
def keyword_float(layers: Any, q: Any) -> Any:
    """Float Keras: depthwise-separable, batch normalization, average pooling, softmax."""
    body: list[Any] = [layers.Conv2D(8, (5, 4), strides=2, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    body += [layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    body += [layers.Conv2D(8, 1), layers.BatchNormalization(), layers.ReLU(), layers.AveragePooling2D((8, 5))]
    return chain((16, 10, 1), *body, layers.Flatten(), layers.Dense(6, activation="softmax"))


@kind(FEATURES)
def float_mlp(layers: Any, q: Any) -> Any:
    """Plain Keras in two lines."""
    return chain((16,), layers.Dense(16, activation="relu"), layers.Dense(5))


@kind(FEATURES)
def lstm(layers: Any, q: Any) -> Any:
    """A recurrent network of float weights."""
    return chain((6, 3), layers.LSTM(6, name="memory"), layers.Dense(3, name="out"))


@kind(FEATURES)
def gru(layers: Any, q: Any) -> Any:
    """Another one."""
    return chain((6, 3), layers.GRU(6, name="memory"), layers.Dense(3, name="out"))


@kind(FEATURES)
def two_inputs(layers: Any, q: Any) -> Any:
    """Two kinds of features that meet in the middle."""
    keras = runtime().keras
    ports = [keras.Input((size,), name=name) for size, name in ((8, "tracks"), (4, "calo"))]
    sides = [act("quantized_bits(12, 3, alpha=1)")(port) for port in ports]
    sides = [act("quantized_relu(8, 3)")(q.QDense(8, **both(6))(side)) for side in sides]
    return keras.Model(ports, q.QDense(3, **both(6))(layers.Concatenate()(sides)), name="own")


@kind(FEATURES)
def conv1d_causal(layers: Any, q: Any) -> Any:
    """A temporal convolution that does not look ahead."""
    body = [act("quantized_bits(12, 3, alpha=1)"), q.QConv1D(4, 3, padding="causal", **both(6))]
    return chain((16, 2), *body, act("quantized_relu(8, 3)"), layers.Flatten(), q.QDense(4, **both(6)))


@kind(FEATURES)
def tanh_activations(layers: Any, q: Any) -> Any:
    """QKeras' hard tanh between the layers."""
    body = [
        act("quantized_bits(12, 3, alpha=1)"),
        q.QDense(12, **both(6)),
        act("quantized_tanh(8)"),
    ]
    return chain((10,), *body, q.QDense(4, **both(6)))


@kind(FEATURES, save=_json)
def json_and_weights(layers: Any, q: Any) -> Any:
    """An architecture and its weights in two files."""
    return chain(
        (10,),
        act("quantized_bits(12, 3, alpha=1)"),
        q.QDense(6, **both(6)),
        layers.ReLU(),
        q.QDense(3, **both(6)),
    )


@kind(FEATURES, save=_saved_model)
def saved_model(layers: Any, q: Any) -> Any:
    """A SavedModel folder."""
    return chain((10,), layers.Dense(8, activation="relu"), layers.Dense(3))


@kind(FEATURES, save=_keras3)
def keras3_file(layers: Any, q: Any) -> Any:
    """What Keras 3 writes (this model is not it)."""
    return chain((16,), layers.Dense(5))


@kind(FEATURES, want="message", save=_foreign_class)
def foreign_class(layers: Any, q: Any) -> Any:
    """A layer of its author's own: its code is not in the file."""
    return chain((16,), layers.Dense(5))


# Images


@kind()
def conv_batchnorm(layers: Any, q: Any) -> Any:
    """QConv2DBatchnorm, quantizer objects, softmax, no input quantizer."""
    body: list[Any] = []
    for filters in (4, 8):
        conv = q.QConv2DBatchnorm(filters, 3, strides=2, padding="same", **both(8, 2))
        body += [conv, q.QActivation(q.quantized_relu(8, 2))]
    return chain((16, 16, 3), *body, layers.Flatten(), q.QDense(10, **both(8, 2)), layers.Activation("softmax"))


@kind(BYTES)
def raw_pixels(layers: Any, q: Any) -> Any:
    """Pixels 0..255, scaled by the first kernel."""
    small = {"kernel_quantizer": bits(8, 0, alpha=2.0**-8), "bias_quantizer": bits(8, 1)}
    body = [
        act("quantized_bits(10, 8, alpha=1)"),
        q.QConv2D(4, 3, **small),
        act("quantized_relu(8, 2)"),
    ]
    return chain((8, 8, 1), *body, layers.Flatten(), q.QDense(10, **both(8, 1)))


@kind()
def bias_alpha(layers: Any, q: Any) -> Any:
    """A bias quantizer with a scale."""
    return image(bias_quantizer=bits(6, alpha=0.25))


@kind()
def causal_stride(layers: Any, q: Any) -> Any:
    """A causal convolution that skips."""
    return image(layers.Reshape((16, 4)), q.QConv1D(3, 4, strides=2, padding="causal", **both(6)))


@kind()
def twelve_bits(layers: Any, q: Any) -> Any:
    """Sums that float32 does not hold."""
    body: list[Any] = []
    for _ in range(2):
        body += [q.QConv2D(8, 3, **both(12)), act("quantized_relu(12, 2)")]
    return image(*body, shape=(12, 12, 1))


@kind(want="message", save=_not_finite)
def not_finite(layers: Any, q: Any) -> Any:
    """NaN weights."""
    return image()


@kind(save=_hdf5_named_keras)
def hdf5_named_keras(layers: Any, q: Any) -> Any:
    """HDF5 under the name of another format."""
    return image()


@kind()
def separable_conv(layers: Any, q: Any) -> Any:
    """QSeparableConv2D."""
    quantizers = {"depthwise_quantizer": bits(6), "pointwise_quantizer": bits(6), "bias_quantizer": bits(6)}
    return image(q.QSeparableConv2D(4, 3, **quantizers), act("quantized_relu(8, 2)"))


@kind()
def depthwise_conv(layers: Any, q: Any) -> Any:
    """QDepthwiseConv2D, then 1x1."""
    depthwise = q.QDepthwiseConv2D(3, depthwise_quantizer=bits(6), bias_quantizer=bits(6))
    return image(depthwise, act("quantized_relu(8, 2)"), q.QConv2D(4, 1, **both(6)), shape=(8, 8, 2))


@kind()
def residual_add(layers: Any, q: Any) -> Any:
    """A shortcut around a convolution."""
    keras = runtime().keras
    source = keras.Input((8, 8, 1), name="picture")
    x = act("quantized_bits(9, 0, alpha=1)")(source)
    x = act("quantized_relu(6, 2)")(q.QConv2D(4, 3, padding="same", **both(6))(x))
    y = act("quantized_relu(6, 2)")(q.QConv2D(4, 3, padding="same", **both(6))(x))
    x = layers.Flatten()(act("quantized_relu(6, 2)")(layers.Add()([x, y])))
    return keras.Model(source, q.QDense(5, **both(6))(x), name="own")


@kind()
def concatenate_three(layers: Any, q: Any) -> Any:
    """Three branches side by side."""
    keras = runtime().keras
    source = keras.Input((6, 6, 1), name="picture")
    x = act("quantized_bits(9, 0, alpha=1)")(source)
    sides = [act("quantized_relu(6, 2)")(q.QConv2D(2, size, padding="same", **both(6))(x)) for size in (1, 3, 5)]
    return keras.Model(source, q.QDense(5, **both(6))(layers.Flatten()(layers.Concatenate()(sides))), name="own")


@kind()
def ternary_weights(layers: Any, q: Any) -> Any:
    """Weights of -1, 0, 1."""
    ternary = {"kernel_quantizer": q.ternary(alpha=1), "bias_quantizer": bits(6)}
    return image(q.QConv2D(4, 3, **ternary), act("quantized_relu(8, 4)"), **ternary)


@kind()
def binary_weights(layers: Any, q: Any) -> Any:
    """Weights of -1 and 1."""
    binary = {"kernel_quantizer": q.binary(alpha=1), "bias_quantizer": bits(6)}
    return image(q.QConv2D(4, 3, **binary), act("quantized_relu(8, 4)"), **binary)


@kind()
def alpha_auto(layers: Any, q: Any) -> Any:
    """Scales that QKeras chooses."""
    auto = both(4, alpha="auto")
    return image(q.QConv2D(4, 3, **auto), act("quantized_relu(8, 2)"), **auto)


@kind()
def leaky_relu(layers: Any, q: Any) -> Any:
    """A slope below zero."""
    return image(q.QConv2D(4, 3, **both(6)), act("quantized_relu(8, 2, 0, 0.25)"))


@kind()
def hard_sigmoid(layers: Any, q: Any) -> Any:
    """QKeras' hard sigmoid."""
    return image(q.QConv2D(4, 3, **both(6)), act("quantized_sigmoid(8)"))


@kind()
def global_average_pooling(layers: Any, q: Any) -> Any:
    """The mean of every channel."""
    body = [q.QConv2D(6, 3, **both(6)), act("quantized_relu(8, 2)"), layers.GlobalAveragePooling2D()]
    return image(*body)


@kind()
def upsampling(layers: Any, q: Any) -> Any:
    """Pixels repeated, as in a decoder."""
    return image(layers.UpSampling2D(2), q.QConv2D(2, 3, **both(6)), act("quantized_relu(8, 2)"), shape=(5, 5, 1))


@kind()
def zero_padding(layers: Any, q: Any) -> Any:
    """Padding in a layer of its own."""
    return image(layers.ZeroPadding2D(1), q.QConv2D(3, 3, **both(6)), act("quantized_relu(8, 2)"))
