"""How a network becomes Verilog: what a config says under `rtl`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RtlConfig(BaseModel):
    """Pipelining and limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_cutoff_ns: float | None = Field(
        None, ge=0.5, le=1000.0, description="of one pipeline stage, as alkaid estimates it; None: the clock period"
    )
    max_adders: int = Field(
        20_000, ge=1, description="estimated adders above which simulation and synthesis want --force"
    )
    inputs: int = Field(10_000, ge=1, description="the gate sees at least so many; random ones fill up")
