"""What the batch-normalized networks are made of."""

from __future__ import annotations

from typing import Any

from qmodels.runtime import runtime

#: Share of the old moving statistics kept at each step; Keras' 0.99 needs more steps than short trainings have.
MOMENTUM = 0.9


def scaled(filters: int, width: float) -> int:
    """`filters` times `width`, at least one."""
    return max(1, round(filters * width))


def convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """Convolution, with the bias that the published parameter counts hold, and batch normalization."""
    x = plain_convolution(x, filters, size, stride, name)
    return runtime().keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)


def plain_convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """Convolution with a bias alone."""
    layers = runtime().keras.layers
    return layers.Conv2D(filters, size, stride, "same", kernel_initializer="he_normal", name=name)(x)


def depthwise(x: Any, stride: int, name: str) -> Any:
    """3x3 depthwise convolution and batch normalization."""
    layers = runtime().keras.layers
    x = layers.DepthwiseConv2D(3, stride, "same", depthwise_initializer="he_normal", name=name)(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)


def relu(x: Any, name: str) -> Any:
    """ReLU: in the quantized model the place that rounds."""
    return runtime().keras.layers.Activation("relu", name=name)(x)


def pooled(x: Any) -> Any:
    """The mean of every channel over the whole picture, as a vector."""
    layers = runtime().keras.layers
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    return layers.Flatten(name="flatten")(relu(x, "pool_relu"))
