"""What the files of a run that its own steps read again must look like."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from qmodels.quantize.model import LayerFormats
from qmodels.shapes import Count, Part, Strength

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class LayerCostPart(Part):
    """A layer in cost.json."""

    layer: str
    multipliers: Count
    ebops: Count
    weight_bits: Count
    fifo_bits: Count
    bram_18k: Count
    luts_estimated: Count
    dsps_estimated: Count
    interval_cycles: Count
    latency_cycles: Count


class ExportPart(Part):
    """A file in tflite.json."""

    file: str
    precision: str
    inputs: str
    test_accuracy: float
    test_samples: Count


class CostPart(Part):
    """cost.json."""

    multipliers: Count
    ebops: Count
    weight_bits: Count
    fifo_bits: Count
    bram_18k: Count
    luts_estimated: Count
    dsps_estimated: Count
    ii_cycles_estimated: Count
    latency_cycles_estimated: Count
    layers: list[LayerCostPart]


class DifferencePart(Part):
    """How the model's outputs differ from the accelerator's."""

    outputs: Count
    of_outputs: Count
    decisions: Count
    of_decisions: Count
    largest_gap: Strength
    first_layer: str = ""
    suspect: str = ""
    told: str = ""


class SimulationPart(Part):
    """simulation.json."""

    inputs: Count
    adversarial_inputs: Count
    mismatched_outputs: Count
    csim_inputs: Count
    engine: str = ""
    exactness: str = "required"
    model_difference: DifferencePart | None = None


class CandidatePart(Part):
    """One choice for all layers, scored."""

    mean_delta_w: Strength
    stored_bits: Count
    clean: Annotated[float, Field(ge=0.0, le=1.0)]
    attacked: Annotated[float, Field(ge=0.0, le=1.0)]


class ChosenLayerPart(Part):
    """What was chosen for a layer."""

    layer: str
    method: str
    bits: Count
    granularity: str
    clip: str | float
    delta_w_2: Strength
    stored_bits: Count
    hardware_type: str


class LayerwisePart(Part):
    """layerwise.json."""

    chosen: Count
    common: CandidatePart
    candidates: list[CandidatePart]
    layers: list[ChosenLayerPart]

    @model_validator(mode="after")
    def _in_range(self) -> LayerwisePart:
        if self.chosen >= len(self.candidates):
            raise ValueError(f"chosen must be below {len(self.candidates)}, the number of candidates")
        return self


class ChangePart(Part):
    """`OutputChange` in repair.json."""

    images: Count
    largest_difference: Strength
    changed_predictions: Count | None
    compared: str


class RepairPart(Part):
    """repair.json."""

    repairs: list[str]
    change: ChangePart
    exact: bool = True


class AdoptedPart(Part):
    """adopted.json."""

    changes: list[str]


class QuantizationPart(Part):
    """A layer in quantization.json."""

    layer: str
    bits: Annotated[int, Field(ge=1, le=64)] | None = None


class ProjectPart(Part):
    """project.json."""

    digest: str
    warnings: list[str] = Field(default=[])


class OverflowLayerPart(Part):
    """What does not fit in one place of a layer."""

    layer: str
    place: Annotated[str, Field(pattern="^(accumulator|result)$")]
    saturated: Count
    wrapped: Count
    of: Count


class OverflowPart(Part):
    """overflow.json."""

    engine: str
    images: Count
    layers: list[OverflowLayerPart]


class FormatsPart(Part):
    """A layer in formats.json."""

    layer: str

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        try:
            LayerFormats.from_json(value)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, MemoryError) as error:
            raise ValueError(f"must hold a layer's formats ({type(error).__name__}: {error})"[:200]) from None
        return value
