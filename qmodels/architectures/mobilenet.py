"""MobileNetV1 (Howard et al., arXiv:1704.04861) with a quarter of the filters: MLPerf Tiny's visual wake words."""

from __future__ import annotations

from typing import Any

from qmodels.architectures.blocks import convolution, depthwise, pooled, relu, scaled
from qmodels.architectures.config import ModelConfig
from qmodels.errors import UserError

#: Filters at a quarter of the width, and stride, of the thirteen depthwise-separable blocks.
BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


def mobilenet_body(config: ModelConfig, x: Any) -> Any:
    """A strided convolution, then thirteen depthwise-separable blocks; made for 96x96x3, halves the picture five times.

    Smaller pictures: a block halves only what is at least 2 wide and high.
    """
    if len(x.shape) != 4:
        raise UserError(f"model: mobilenet_v1_025 needs images, got {tuple(x.shape[1:])}")
    width = config.width or 1.0
    x = relu(convolution(x, scaled(8, width), 3, _stride(x, 2), "stem"), "stem_relu")
    for index, (filters, stride) in enumerate(BLOCKS, start=1):
        x = relu(depthwise(x, _stride(x, stride), f"b{index}_depth"), f"b{index}_depth_relu")
        x = relu(convolution(x, scaled(filters, width), 1, 1, f"b{index}_point"), f"b{index}_point_relu")
    return pooled(x)


def _stride(x: Any, stride: int) -> int:
    return stride if min(x.shape[1:3]) > 1 else 1
