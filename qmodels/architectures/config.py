"""Which architecture, and its sizes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

Architecture = Literal["mlp", "cnn", "cnn4", "resnet8", "mobilenet_v1_025", "wrn32", "coffee_cnn"]


class ModelConfig(BaseModel):
    """Which architecture, and its sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Architecture = "cnn4"
    filters: tuple[PositiveInt, ...] = Field((16, 32), description="cnn, cnn4: filters of each convolution")
    kernel_size: int = Field(3, ge=1, le=32)
    stride: int = Field(2, ge=1, le=32, description="cnn: of every convolution")
    padding: Literal["same", "valid"] = "same"
    downsampling: Literal["max-pool", "stride"] = Field(
        "max-pool", description="cnn4: 2x2 pooling behind each convolution, or convolutions of stride 2"
    )
    binary_input: bool = Field(
        False, description="round every pixel to 0 or 1 first: a small change then only reaches pixels near one half"
    )
    hidden: tuple[PositiveInt, ...] = Field((64,), description="units of the hidden fully connected layers")
    width: float | None = Field(
        None,
        gt=0,
        le=16,
        description="filters times this, default 1; wrn32: widening factor, default 4",
    )
