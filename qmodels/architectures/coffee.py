"""The coffee-bean classifier of "David and Goliath" (Costa and Pinto, arXiv:2404.05688): 224x224x3, four classes."""

from __future__ import annotations

from typing import Any

from qmodels.architectures.blocks import relu, scaled
from qmodels.architectures.config import ModelConfig
from qmodels.errors import UserError
from qmodels.runtime import runtime

#: Filters, size, stride, and whether 2x2 pooling follows.
CONVOLUTIONS = ((32, 8, 4, True), (64, 3, 2, False), (128, 3, 1, True), (64, 3, 1, False))
#: Units of the dense layers before the logits, and the dropout behind them.
DENSE = ((128, 0.2), (32, 0.5))


def coffee_body(config: ModelConfig, x: Any) -> Any:
    """Four convolutions without padding, 250,436 parameters at full size; pictures of 140x140 or more."""
    if len(x.shape) != 4 or min(x.shape[1:3]) < 140:
        raise UserError(f"model: coffee_cnn needs images of 140x140 pixels or more, got {tuple(x.shape[1:])}")
    layers, width = runtime().keras.layers, config.width or 1.0
    for number, (filters, size, stride, pools) in enumerate(CONVOLUTIONS, start=1):
        x = layers.Conv2D(scaled(filters, width), size, stride, name=f"conv{number}")(x)
        x = relu(x, f"conv{number}_relu")
        x = layers.MaxPooling2D(name=f"pool{number}")(x) if pools else x
    x = layers.Flatten(name="flatten")(x)
    for number, (units, dropout) in enumerate(DENSE, start=1):
        x = relu(layers.Dense(scaled(units, width), name=f"fc{number}")(x), f"fc{number}_relu")
        x = layers.Dropout(dropout, name=f"fc{number}_dropout")(x)
    return x
