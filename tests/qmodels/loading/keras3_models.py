"""Makes models with Keras 3, and their outputs, in a process of its own: `python keras3_models.py FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Build = Callable[[Any], Any]


def functional(shape: tuple[int, ...], *body: Any) -> Build:
    def build(keras: Any) -> Any:
        x = inputs = keras.Input(shape)
        for layer in body:
            x = layer(keras.layers)(x)
        return keras.Model(inputs, x)

    return build


def branches(keras: Any) -> Any:
    """Branches of equal shape: weights in the wrong order would fit."""
    layers = keras.layers
    image = keras.Input((6, 6, 2), name="image")
    late = layers.Conv2D(3, 1, activation="relu", name="late")
    b, a = layers.Conv2D(3, 1, name="z")(image), layers.Conv2D(3, 1, name="a")(image)
    c = layers.Add()([late(b), a, late(a)])
    joined = layers.Concatenate()([layers.Maximum()([a, c]), layers.Average()([b, c]), layers.Multiply()([a, b])])
    joined = layers.Minimum()([joined, layers.Subtract()([joined, layers.Concatenate(axis=-1)([a, b, c])])])
    return keras.Model(image, layers.Dense(4)(layers.Flatten()(joined)))


def nested(keras: Any) -> Any:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.BatchNormalization()], name="inner")
    image = keras.Input((8,))
    x = layers.Dense(8, activation="relu")(image)
    return keras.Model(image, layers.Dense(3)(layers.Add()([inner(x), layers.Dense(6)(x)])))


def two_inputs(keras: Any) -> Any:
    one, two = keras.Input((8,), name="one"), keras.Input((8,), name="two")
    dense = keras.layers.Dense
    return keras.Model([one, two], keras.layers.Concatenate()([dense(3)(two), dense(3)(one)]))


def names(keras: Any) -> Any:
    """Keras 3 allows names that TensorFlow's scopes forbid."""
    layers = keras.layers
    image = keras.Input((8,), name="the input")
    x = layers.Dense(4, name="first layer")(image)
    y = layers.Dense(4, name="_first layer")(image)
    return keras.Model(
        image, layers.Add(name="sum!")([x, y, layers.Dense(4, name="first_layer")(image)]), name="my net"
    )


def activations(keras: Any) -> Any:
    image = keras.Input((8,))
    outputs = [keras.layers.Dense(4, activation=name)(image) for name in _ACTIVATIONS.split()]
    return keras.Model(image, keras.layers.Concatenate()(outputs))


_ACTIVATIONS = "linear relu relu6 tanh sigmoid softmax softplus softsign elu selu gelu exponential leaky_relu silu"
MODELS: dict[str, Build] = {
    "dense": lambda keras: keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3, use_bias=False)]
    ),
    "images": functional(
        (12, 12, 2),
        lambda layers: layers.ZeroPadding2D(((1, 0), (2, 1))),
        lambda layers: layers.Conv2D(4, 3, strides=2, padding="same"),
        lambda layers: layers.BatchNormalization(),
        lambda layers: layers.ReLU(max_value=6.0),
        lambda layers: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        lambda layers: layers.BatchNormalization(scale=False, epsilon=1e-5),
        lambda layers: layers.LeakyReLU(negative_slope=0.1),
        lambda layers: layers.SeparableConv2D(4, 2, activation="tanh"),
        lambda layers: layers.Conv2D(4, 2, groups=2, dilation_rate=1),
        lambda layers: layers.MaxPooling2D(2, strides=1, padding="same"),
        lambda layers: layers.AveragePooling2D(2),
        lambda layers: layers.Dropout(0.5),
        lambda layers: layers.Flatten(),
        lambda layers: layers.Dense(5),
        lambda layers: layers.Softmax(),
    ),
    "sequences": functional(
        (24, 3),
        lambda layers: layers.ZeroPadding1D((2, 1)),
        lambda layers: layers.Conv1D(4, 3, padding="causal", activation="relu"),
        lambda layers: layers.BatchNormalization(center=False),
        lambda layers: layers.DepthwiseConv1D(3, padding="same"),
        lambda layers: layers.SeparableConv1D(5, 2, strides=1),
        lambda layers: layers.AveragePooling1D(2, padding="same"),
        lambda layers: layers.ELU(0.5),
        lambda layers: layers.MaxPooling1D(2),
        lambda layers: layers.Permute((2, 1)),
        lambda layers: layers.Reshape((5, -1)),
        lambda layers: layers.GlobalAveragePooling1D(),
        lambda layers: layers.Dense(2, activation="softmax"),
    ),
    "global_max": functional(
        (6, 6, 3), lambda layers: layers.Conv2D(3, 2), lambda layers: layers.GlobalMaxPooling2D(keepdims=True)
    ),
    "global_average": functional(
        (6, 6, 3), lambda layers: layers.GlobalAveragePooling2D(), lambda layers: layers.Dense(3)
    ),
    "global_max_1d": functional((6, 3), lambda layers: layers.GlobalMaxPooling1D(), lambda layers: layers.Dense(3)),
    "scaled": functional(
        (4, 4, 3),
        lambda layers: layers.Rescaling(1 / 127.5, offset=-1.0),
        lambda layers: layers.RandomFlip("horizontal"),
        lambda layers: layers.GaussianNoise(0.1),
        lambda layers: layers.Normalization(mean=[0.1, -0.2, 0.3], variance=[0.5, 1.0, 2.0]),
        lambda layers: layers.Conv2D(3, 2),
        lambda layers: layers.SpatialDropout2D(0.2),
        lambda layers: layers.Flatten(),
        lambda layers: layers.Dense(2),
    ),
    "branches": branches,
    "nested": nested,
    "two_inputs": two_inputs,
    "names": names,
    "activations": activations,
    # not read
    "lstm": functional((6, 3), lambda layers: layers.LSTM(2, name="memory")),
    "hard": functional((8,), lambda layers: layers.Dense(4, activation="hard_sigmoid", name="fc")),
    "half": functional((8,), lambda layers: layers.Dense(4, dtype="mixed_float16", name="fc")),
    "lambda": functional((8,), lambda layers: layers.Lambda(lambda x: x + 1, name="payload")),
}


def main(folder: Path) -> None:
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for name, build in MODELS.items():
        keras.utils.clear_session()
        model = build(keras)
        model.set_weights([rng.uniform(0.1, 0.9, w.shape) - 0.3 * (w.ndim > 1) for w in model.get_weights()])
        x = [rng.normal(size=(32, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
        np.savez(folder / f"{name}.npz", *x, y=np.asarray(model(x if len(x) > 1 else x[0], training=False)))
        model.save(folder / f"{name}.keras")
        if name in ("branches", "dense", "lambda", "names", "nested"):
            model.save(folder / f"{name}.h5")
            (folder / f"{name}.json").write_text(model.to_json())
            model.save_weights(folder / f"{name}.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
