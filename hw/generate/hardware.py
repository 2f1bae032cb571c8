"""What an accelerator is generated for: backend, part, clock, reuse, storage of weights, precisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from hw.generate.contract.names import is_free_name
from qmodels.formats import FixedPoint

#: Vitis unrolls and partitions at most this many weights of a layer; above, time-multiplex it.
MAX_UNROLLED_WEIGHTS = 4096
MAX_REUSE = 1_000_000
#: Bits of a type set by hand, and how far its binary point may lie from them: the simulators' integers have 64.
MAX_FORMAT_BITS = 64
#: Backends of one family: the same headers and `ap_` types.
AMD_BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator")
#: Where weights may be codes: the header speaks the vendor's `ap_` types.
CODEBOOK_BACKENDS = AMD_BACKENDS

Backend = Literal["Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult"]
#: Parts of backends that do not have ours when it is left out: hls4ml's own defaults.
_PARTS = {"Quartus": "Arria10", "Catapult": "xcvu13p-flga2577-2-e"}
Board = Literal["pynq-z2", "zcu102", "alveo-u50", "alveo-u250", "alveo-u200", "alveo-u280"]
WeightStorage = Literal["values", "codes", "auto"]


def _reuse(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_REUSE):
        return value
    raise ValueError(f"must be auto or a whole number from 1 to {MAX_REUSE}; got {value!r}")


def _format(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a type such as fixed<16,6>; got {value!r}")
    parsed = FixedPoint.parse(value)
    if parsed.width > MAX_FORMAT_BITS or abs(parsed.integer) > MAX_FORMAT_BITS:
        limits = f"1 to {MAX_FORMAT_BITS} bits, of them -{MAX_FORMAT_BITS} to {MAX_FORMAT_BITS} integer bits"
        raise ValueError(f"must be a type of {limits}; got {value!r}")
    return str(parsed)


Reuse = Annotated[int | Literal["auto"], BeforeValidator(_reuse)]
Format = Annotated[str, BeforeValidator(_format)]


class Precision(BaseModel):
    """Types that take the place of those hls4ml infers; checked: hw/generate/precision.py."""

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
    hls4ml_types: dict[str, Any] = Field(
        {}, description="Precision entries of hls4ml's own HLSConfig; a float model then goes to hls4ml as it is"
    )

    @model_validator(mode="before")
    @classmethod
    def _part_suits_the_backend(cls, values: Any) -> Any:
        backend = values.get("backend") if isinstance(values, dict) else None
        return {"part": _PARTS[backend], **values} if isinstance(backend, str) and backend in _PARTS else values

    @field_validator("backend", mode="before")
    @classmethod
    def _backend_can_be_simulated(cls, name: Any) -> Any:
        if isinstance(name, str) and name.lower() in ("oneapi", "libero"):
            compiler = "Intel's icpx" if name.lower() == "oneapi" else "Microchip's shls"
            raise ValueError(
                f"{name!r} is not offered: its C simulation needs {compiler}, and without it nothing here can show "
                f"that its bits are the model's (allowed: {', '.join(get_args(Backend))})"
            )
        return name

    @field_validator("project_name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if not is_free_name(name):
            raise ValueError(f"{name!r} is a word of C++ or hls4ml; choose another name for the top function")
        return name

    def of_layer(self, name: str, graph: Any) -> LayerHardware:
        """What a layer of hls4ml's graph has of its own: the halves of a separable convolution share the whole's."""
        whole = name.removesuffix("_depthwise").removesuffix("_pointwise")
        return self.layers.get(name if name in self.layers or whole in graph.graph else whole, LayerHardware())
