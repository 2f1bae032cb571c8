"""Networks without branches or batch normalization: the perceptron, strided convolutions, the seed's MNIST network."""

from __future__ import annotations

from typing import Any

from qmodels.architectures.config import ModelConfig
from qmodels.errors import UserError
from qmodels.runtime import runtime


def mlp_body(config: ModelConfig, x: Any) -> Any:
    """Fully connected layers with ReLU."""
    return _hidden(config, x if len(x.shape) == 2 else runtime().keras.layers.Flatten(name="flatten")(x))


def cnn_body(config: ModelConfig, x: Any) -> Any:
    """Convolutions of one kernel size and one stride, each with ReLU, then fully connected layers."""
    layers = runtime().keras.layers
    for index, filters in enumerate(config.filters, start=1):
        try:
            x = layers.Conv2D(filters, config.kernel_size, config.stride, config.padding, name=f"conv{index}")(x)
        except ValueError:
            raise _too_small(index, config) from None
        x = layers.Activation("relu", name=f"conv{index}_relu")(x)
    return _hidden(config, layers.Flatten(name="flatten")(x))


def cnn4_body(config: ModelConfig, x: Any) -> Any:
    """The seed's MNIST network: two convolutions with ReLU and 2x2 pooling (or stride 2), then fully connected."""
    if len(config.filters) != 2 or len(config.hidden) != 1:
        raise UserError(
            f"model: cnn4 has two convolutions and one hidden layer; got filters {list(config.filters)}, "
            f"hidden {list(config.hidden)}"
        )
    layers = runtime().keras.layers
    pools = config.downsampling == "max-pool"
    for index, filters in enumerate(config.filters, start=1):
        try:
            stride = 1 if pools else 2
            x = layers.Conv2D(filters, config.kernel_size, stride, config.padding, name=f"conv{index}")(x)
            x = layers.Activation("relu", name=f"conv{index}_relu")(x)
            x = layers.MaxPooling2D(name=f"pool{index}")(x) if pools else x
        except ValueError:
            raise _too_small(index, config) from None
    return _hidden(config, layers.Flatten(name="flatten")(x))


def _too_small(index: int, config: ModelConfig) -> UserError:
    return UserError(f"model: the images are too small for conv{index} with padding {config.padding}")


def _hidden(config: ModelConfig, x: Any) -> Any:
    layers = runtime().keras.layers
    for index, units in enumerate(config.hidden, start=1):
        x = layers.Dense(units, name=f"fc{index}")(x)
        x = layers.Activation("relu", name=f"fc{index}_relu")(x)
    return x
