"""The model zoo, in float Keras. The QKeras twin of any of them comes from `qmodels.quantize`.

Every model starts with a linear activation named `input_grid`, the place where the quantized model rounds its
input onto the device's grid, and ends in logits: hls4ml's softmax is never bit-exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from qmodels.errors import UserError
from qmodels.runtime import runtime, set_seed

INPUT_GRID = "input_grid"


class ModelConfig(BaseModel):
    """Which architecture, and its sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["mlp", "cnn4"] = "cnn4"
    filters: tuple[PositiveInt, ...] = Field((16, 32), description="cnn4: filters of the two convolutions")
    kernel_size: int = Field(3, ge=1, le=11)
    padding: Literal["same", "valid"] = "same"
    hidden: tuple[PositiveInt, ...] = Field((64,), description="units of the hidden fully connected layers")


def build_float(config: ModelConfig, input_shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """A fresh, seeded float Keras model: images (N, H, W, C) in [0, 1) -> logits (N, classes).

    Raises:
        UserError: the sizes do not fit the architecture or the images.
    """
    set_seed(seed)
    body: Callable[[ModelConfig, Any], Any] = {"mlp": _mlp_body, "cnn4": _cnn4_body}[config.architecture]
    layers, keras = runtime().keras.layers, runtime().keras
    image = layers.Input(input_shape, name="image")
    x = layers.Activation("linear", name=INPUT_GRID)(image)
    logits = layers.Dense(classes, name="logits")(body(config, x))
    return keras.Model(image, logits, name=config.architecture)


def _mlp_body(config: ModelConfig, x: Any) -> Any:
    return _hidden(config, runtime().keras.layers.Flatten(name="flatten")(x))


def _cnn4_body(config: ModelConfig, x: Any) -> Any:
    """Two convolutions, each with ReLU and 2x2 pooling, then fully connected: the seed's MNIST network."""
    if len(config.filters) != 2 or len(config.hidden) != 1:
        raise UserError(
            f"model: cnn4 has two convolutions and one hidden layer; got filters {list(config.filters)}, "
            f"hidden {list(config.hidden)}"
        )
    layers = runtime().keras.layers
    for index, filters in enumerate(config.filters, start=1):
        try:
            x = layers.Conv2D(filters, config.kernel_size, padding=config.padding, name=f"conv{index}")(x)
            x = layers.Activation("relu", name=f"conv{index}_relu")(x)
            x = layers.MaxPooling2D(name=f"pool{index}")(x)
        except ValueError:
            raise UserError(f"model: the images are too small for conv{index} with padding {config.padding}") from None
    return _hidden(config, layers.Flatten(name="flatten")(x))


def _hidden(config: ModelConfig, x: Any) -> Any:
    layers = runtime().keras.layers
    for index, units in enumerate(config.hidden, start=1):
        x = layers.Dense(units, name=f"fc{index}")(x)
        x = layers.Activation("relu", name=f"fc{index}_relu")(x)
    return x
