"""Residual networks (He et al., arXiv:1512.03385; wide ones: Zagoruyko and Komodakis, arXiv:1605.07146).

Batch normalization comes after the convolution and before the sum, as in the first paper, so that it folds away.
Sums are of unrounded numbers: hls4ml carries both branches in full, and the ReLU after the sum rounds once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmodels.architectures.blocks import convolution, plain_convolution, pooled, relu, scaled
from qmodels.architectures.config import ModelConfig
from qmodels.errors import UserError
from qmodels.runtime import runtime

STAGES = (16, 32, 64)


def resnet8_body(config: ModelConfig, x: Any) -> Any:
    """MLPerf Tiny's network for CIFAR-10: three blocks of 16, 32 and 64 filters (arXiv:2106.07597).

    Its 1x1 shortcuts are not batch-normalized.
    """
    return _residual(x, config, blocks=1, stem=16, width=config.width or 1.0, short=plain_convolution)


def wrn32_body(config: ModelConfig, x: Any) -> Any:
    """Wide ResNet-32: 16 filters, then three stages of five blocks of 16k, 32k and 64k filters, k = config.width."""
    return _residual(x, config, blocks=5, stem=16, width=config.width or 4.0, short=convolution)


Shortcut = Callable[[Any, int, int, int, str], Any]


def _residual(x: Any, config: ModelConfig, blocks: int, stem: int, width: float, short: Shortcut) -> Any:
    if len(x.shape) != 4 or min(x.shape[1:3]) < 4:
        raise UserError(f"model: {config.architecture} needs images of 4x4 pixels or more, got {tuple(x.shape[1:])}")
    # a narrowed network has a narrow stem; widening leaves it as it is
    x = relu(convolution(x, scaled(stem, min(width, 1.0)), 3, 1, "stem"), "stem_relu")
    for stage, filters in enumerate(STAGES, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, scaled(filters, width), stride, f"s{stage}b{block}", short)
    return pooled(x)


def _block(x: Any, filters: int, stride: int, name: str, short: Shortcut) -> Any:
    y = relu(convolution(x, filters, 3, stride, f"{name}_conv1"), f"{name}_relu1")
    y = convolution(y, filters, 3, 1, f"{name}_conv2")
    if stride > 1 or x.shape[-1] != filters:
        x = short(x, filters, 1, stride, f"{name}_short")
    return relu(runtime().keras.layers.Add(name=f"{name}_add")([y, x]), f"{name}_relu2")
