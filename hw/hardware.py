"""What an accelerator is generated for: backend, part, clock, reuse, storage of weights, precisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from hw.contract.names import RESERVED
from qmodels.formats import FixedPoint

#: Vitis unrolls and partitions at most this many weights of a layer; above, time-multiplex it.
MAX_UNROLLED_WEIGHTS = 4096
MAX_REUSE = 1_000_000
#: Where weights may be codes: the header speaks the vendor's `ap_` types.
CODEBOOK_BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator")

Backend = Literal["Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult"]
Board = Literal["pynq-z2", "zcu102", "alveo-u50", "alveo-u250", "alveo-u200", "alveo-u280"]
WeightStorage = Literal["values", "codes", "auto"]


def _reuse(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_REUSE):
        return value
    raise ValueError(f"must be auto or a whole number from 1 to {MAX_REUSE}; got {value!r}")


def _format(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a type such as fixed<16,6>; got {value!r}")
    return str(FixedPoint.parse(value))


Reuse = Annotated[int | Literal["auto"], BeforeValidator(_reuse)]
Format = Annotated[str, BeforeValidator(_format)]


class Precision(BaseModel):
    """Types that take the place of those hls4ml infers; checked: hw/precision.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accum: Format | None = Field(None, description="of the sums, as fixed<24,12>")
    result: Format | None = Field(None, description="of the layer's output before its activation")
    weight: Format | None = None
    bias: Format | None = None


class LayerHardware(BaseModel):
    """What one layer has of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: Literal["latency", "resource"] | None = None
    reuse_factor: Reuse | None = None
    weight_storage: WeightStorage | None = None
    precision: Precision = Precision()


class HardwareConfig(BaseModel):
    """What the accelerator is generated for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field("Vitis", description="bitsim knows Vitis, Vivado and VivadoAccelerator; csim all")
    board: Board = Field("pynq-z2", description="VivadoAccelerator only: the board, which also decides the part")
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    part: str = Field("xcu250-figd2104-2L-e", pattern=r"^[A-Za-z0-9_-]+$", description="FPGA part")
    clock_period_ns: float = Field(5.0, ge=0.5, le=1000.0)
    project_name: str = Field("accelerator", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")
    reuse_factor: Reuse = Field(
        "auto",
        description="multiplications per multiplier; auto: 1, and for layers too large to unroll the smallest factor "
        f"that leaves at most {MAX_UNROLLED_WEIGHTS} multipliers",
    )
    strategy: Literal["auto", "latency", "resource"] = Field(
        "auto",
        description=f"auto: resource for layers of more than {MAX_UNROLLED_WEIGHTS} weights, latency for the rest",
    )
    weight_storage: WeightStorage = Field(
        "values", description="codes: b bits a weight and a table; auto: codes where that takes fewer bits"
    )
    precision: Precision = Field(
        Precision(), description="types of every layer with weights, in place of inferred ones"
    )
    layers: dict[str, LayerHardware] = Field({}, description="settings of single layers, by name")

    @field_validator("project_name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"{name!r} is a word of C++ or hls4ml; choose another name for the top function")
        return name
