"""Small `.tflite` files: a dense classifier of 4x4 images on the image grid, with and without a softmax."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime, set_seed
from qmodels.tflite.export import Target, export_tflite

SHAPE, CLASSES = (4, 4, 1), 3


def images(count: int, seed: int = 0) -> Any:
    """Codes (N, 4, 4, 1): a bright row tells the class; as `helpers.models.write_data` makes them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 128, (count, *SHAPE), dtype=np.uint8)
    x[np.arange(count), np.arange(count) % CLASSES] += 127
    return x


@cache
def keras_model(head: str | None = None) -> Any:
    """Weights that know the bright row, with a little noise; `head` is the last layer's activation."""
    set_seed(0)
    keras, rng = runtime().keras, np.random.default_rng(0)
    width = 1 if head == "sigmoid" else CLASSES
    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(4, 1, activation="relu", name="mix")(image)
    model = keras.Model(image, keras.layers.Dense(width, head, name="logits")(keras.layers.Flatten()(x)), name="small")
    model.get_layer("mix").set_weights([np.ones((1, 1, 1, 4), np.float32), np.zeros(4, np.float32)])
    kernel = rng.normal(0, 0.05, (4, 4, 4, width)).astype(np.float32)
    for row in range(width):
        kernel[row, :, :, row] += 0.5
    bias = np.full(width, -5.0 if head == "sigmoid" else 0.0, np.float32)  # one logit: the first class, above 0
    model.get_layer("logits").set_weights([kernel.reshape(64, width), bias])
    return model


@cache
def tflite_content(target: Target, head: str | None = None) -> bytes:
    """That model as a file's content."""
    return export_tflite(keras_model(head), target, IMAGE_GRID.to_values(images(90)))


@cache
def hidden_softmax() -> bytes:
    """A file that gives probabilities and does not end in a softmax: the smaller of them and one."""
    keras, plain = runtime().keras, keras_model("softmax")
    lesser = keras.layers.ReLU(max_value=0.999999, name="lesser")(plain.output)
    return export_tflite(keras.Model(plain.input, lesser, name="hidden"), "float32", IMAGE_GRID.to_values(images(1)))
