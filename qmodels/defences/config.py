"""Pre-processing defences and their settings; which of them are stated by their sources and which are ours."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DefenceKind = Literal["none", "feature-squeezing", "pixeldefend"]


class SqueezingConfig(BaseModel):
    """Feature squeezing (Xu et al. 2018, arXiv:1704.01155): fewer bits, and a median over neighbouring pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: int | None = Field(default=4, ge=1, le=24, description="bits of an input that are left; null: all")
    window: int | None = Field(default=2, ge=2, le=15, description="side of the median's window in pixels; null: none")
    role: Literal["detector", "filter"] = Field(
        default="detector", description="detector: refuse inputs that squeezing changes too much; filter: squeeze all"
    )
    false_positive_rate: float = Field(
        default=0.05, gt=0, lt=1, description="detector: share of clean validation inputs that may be refused"
    )

    @model_validator(mode="after")
    def _does_something(self) -> SqueezingConfig:
        if self.bits is None and self.window is None:
            raise ValueError("bits and window are both null, so nothing is squeezed; set one of them")
        return self


class PixelDefendConfig(BaseModel):
    """PixelDefend (Song et al. 2018, arXiv:1710.10766): each pixel becomes the likeliest one nearby."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon_lsb: int = Field(default=38, ge=1, le=255, description="how far a pixel may be moved, in grid steps")
    reach: int = Field(default=4, ge=1, le=15, description="ours: pixels to each side that the PixelCNN sees")
    hidden: int = Field(default=64, ge=1, le=1024, description="ours: units of its two hidden layers")
    steps: int = Field(default=3000, ge=1, description="ours: training steps")
    batch_size: int = Field(default=512, ge=1, description="ours: pixels of training images in a step")
    learning_rate: float = Field(default=2e-3, gt=0, description="ours")


class DefenceConfig(BaseModel):
    """What stands before the network. Training defences are methods of `training`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: DefenceKind = "none"
    squeezing: SqueezingConfig = Field(default_factory=SqueezingConfig)
    pixeldefend: PixelDefendConfig = Field(default_factory=PixelDefendConfig)

    @property
    def detects(self) -> bool:
        """Whether inputs may be refused."""
        return self.kind == "feature-squeezing" and self.squeezing.role == "detector"

    @property
    def label(self) -> str:
        """What is added to a model's name in tables; empty without a defence."""
        if self.kind == "none":
            return ""
        return "+pixeldefend" if self.kind == "pixeldefend" else "+detector" if self.detects else "+squeezing"
