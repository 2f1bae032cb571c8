"""The model zoo, in float Keras. The QKeras twin of any of them comes from `qmodels.quantize`.

Every model starts with a linear activation named `input_grid`, the place where the quantized model rounds its
input onto the device's grid, and ends in logits: hls4ml's softmax is never bit-exact. Batch normalization directly
follows the layer that takes it in (`qmodels.quantize.batch_norm`). A ReLU follows every average pooling: it changes
nothing in the float model, and is where the quantized one rounds the quotient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qmodels.architectures.coffee import coffee_body
from qmodels.architectures.config import ModelConfig
from qmodels.architectures.mobilenet import mobilenet_body
from qmodels.architectures.plain import cnn4_body, cnn_body, mlp_body
from qmodels.architectures.residual import resnet8_body, wrn32_body
from qmodels.errors import UserError
from qmodels.loading.limits import bounded_weights
from qmodels.runtime import runtime, set_seed

__all__ = ["INPUT_GRID", "ModelConfig", "build_float", "check_shape"]

INPUT_GRID = "input_grid"
_BODIES: Mapping[str, Callable[[ModelConfig, Any], Any]] = {
    "mlp": mlp_body,
    "cnn": cnn_body,
    "cnn4": cnn4_body,
    "resnet8": resnet8_body,
    "mobilenet_v1_025": mobilenet_body,
    "wrn32": wrn32_body,
    "coffee_cnn": coffee_body,
}


def build_float(config: ModelConfig, input_shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """A fresh, seeded float Keras model: inputs (N, *input_shape) -> logits (N, classes).

    Raises:
        UserError: the sizes do not fit the architecture or the inputs, or are larger than memory.
    """
    check_shape(config, input_shape)
    set_seed(seed)
    layers, keras = runtime().keras.layers, runtime().keras
    with bounded_weights("model"):
        image = layers.Input(input_shape, name="image")
        x = layers.Activation("linear", name=INPUT_GRID)(image)
        if config.binary_input:
            x = _binary(x)
        logits = layers.Dense(classes, name="logits")(_BODIES[config.architecture](config, x))
        return keras.Model(image, logits, name=config.architecture)


def check_shape(config: ModelConfig, input_shape: tuple[int, ...]) -> None:
    """Raise UserError if an architecture cannot take inputs of that shape; starts no TensorFlow."""
    if len(input_shape) == 3:
        return
    found = f"the data give inputs of shape {input_shape}"
    if config.architecture != "mlp":
        mend = "give the arrays a channel axis, x[..., None], or" if len(input_shape) == 2 else "reshape them, or"
        raise UserError(
            f"model: {config.architecture} takes images (height, width, channels); {found}: {mend} set "
            "model.architecture: mlp, which takes any shape"
        )
    if config.binary_input:
        raise UserError(f"model.binary_input: it is for images (height, width, channels); {found}: leave it out")


def _binary(x: Any) -> Any:
    """0 where a pixel is at most one half, else 1/2; straight-through gradients, in the float model too.

    `quantized_relu(1, 1)` would do it in one layer, but hls4ml makes an integer of it, which truncates.
    """
    layers, channels = runtime().keras.layers, x.shape[-1]
    halved = layers.Conv2D(channels, 1, use_bias=False, trainable=False, name="input_scale")
    x = halved(x)
    halved.set_weights([0.5 * np.eye(channels, dtype=np.float32)[None, None]])
    return runtime().qkeras.QActivation("quantized_relu(1, 0)", name="input_levels")(x)
