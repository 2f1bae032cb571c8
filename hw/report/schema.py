"""What a run's JSON files must look like to be read: somebody may have edited them.

Keys that we do not read may hold anything; those that we read have their types.
"""

from __future__ import annotations

import base64
import binascii
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from hw.experiment.stored import OverflowPart, ProjectPart, QuantizationPart
from qmodels.data import Unit
from qmodels.shapes import Count, Part, Record, Share, Strength


class RowPart(Part):
    """`Row` in results.json."""

    model: str
    victim: str
    attack: str
    accuracy: Share
    n: Count
    bits: float | None = None
    knowledge: str = "none"
    epsilon_lsb: Strength | None = 0.0
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(default=[0.0, 1.0])
    queries: Count = 0
    seconds: Strength = 0.0
    seed: int = 0
    source: str = ""
    norm: str = "linf"
    family: str = "none"
    iterative: bool = False
    zero_gradient_share: float = 0.0
    non_finite_share: float = 0.0
    softmax_outputs: bool = False
    doubled_accuracy: Share | None = None
    disagreements: Count = 0
    attack_digest: str = ""
    unbounded: bool = False
    flags: list[str] = Field(default=[])
    epsilon: Strength | None = None
    epsilon_unit: Unit = "lsb"
    task: str = "classes"
    metric: str = "accuracy"
    errors: dict[str, float] | None = None
    attacker: Literal["aware", "unaware"] = "aware"
    refused: Share | None = None


class WorstPart(Part):
    """A worst case: what all attacks of one ball leave."""

    model: str
    victim: str
    norm: str
    epsilon_lsb: Strength | None
    accuracy: Share
    n: Count = 0
    epsilon: Strength | None = None
    epsilon_unit: Unit = "lsb"

    @model_validator(mode="after")
    def _radius(self) -> WorstPart:
        if self.epsilon_unit != "lsb" and "epsilon" not in self.model_fields_set:
            raise ValueError("must have `epsilon`, in its `epsilon_unit`")
        return self


class AttackPart(Part):
    """An attack's settings."""

    attack: str
    epsilons_lsb: list[Strength | None]
    settings: Record


class ChangePart(Part):
    """How a change grows in one layer."""

    layer: str
    float_relative_change: float | None = None
    quantized_relative_change: float | None = None


class QueryPart(Part):
    """Accuracy over the queries of one attack."""

    attack: str
    victim: str
    epsilon_lsb: Strength | None
    accuracy: list[Share]
    queries_per_image: list[Strength]
    epsilon: Strength | None = None
    epsilon_unit: Unit = "lsb"

    @model_validator(mode="after")
    def _pairs(self) -> QueryPart:
        if len(self.accuracy) != len(self.queries_per_image):
            raise ValueError("must have as many numbers in `accuracy` as in `queries_per_image`")
        return self


class MeasuresPart(Part):
    """What is measured besides accuracy."""

    error_amplification: list[ChangePart] | None = None
    accuracy_over_queries: list[QueryPart] | None = None
    boundary_distance: list[Record] | None = None
    defence: list[Record] | None = None
    quantization_shift: list[Record] | None = None
    quantization_shift_by_size: list[Record] | None = None
    gradients: Record | None = None
    examples: Record | None = None


def _known_measures(value: Any) -> Any:
    """Another version may have left another kind of value: it is not read."""
    return value if isinstance(value, dict) else None


def _bits_row(value: Any) -> Any:
    """A layer's ||ΔW|| under keys such as `3 bits`."""
    if isinstance(value, dict):
        if not isinstance(value.get("layer"), str):
            raise ValueError("must have the name of a layer")
        for key, norm in value.items():
            if key != "layer" and not (key.split()[:1] and key.split()[0].isdecimal() and _is_number(norm)):
                raise ValueError(f"must have numbers under keys such as '3 bits', not under {key[:40]!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


_Step = Annotated[float, Field(gt=0.0)]
Step = _Step | Annotated[list[_Step], Field(min_length=1)]


class InputPart(Part):
    """How the inputs lie on their grid; only the step is read: one, or one of every number of several inputs."""

    step: Step


class CriterionPart(Part):
    """What an attack of a task other than classes must reach."""

    direction: str | None = None
    threshold: float | None = None


class TaskPart(Part):
    """What the outputs are for."""

    told: str = ""
    criterion: CriterionPart | None = None


class ExactnessPart(Part):
    """The gate's figures; runs of earlier versions lack some."""

    inputs: Count = 0
    adversarial_inputs: Count = 0
    mismatched_outputs: Count = 0
    csim_inputs: Count | None = None
    engine: str = ""
    model_difference: Record | None = None


class CostLayerPart(Part):
    """A layer's cost."""

    layer: str


class CostFiguresPart(Part):
    """What the network costs; runs of earlier versions lack some of it."""

    luts_estimated: Count = 0
    dsps_estimated: Count = 0
    bram_18k: Count = 0
    weight_bits: Count = 0
    ii_cycles_estimated: Count = 0
    latency_cycles_estimated: Count = 0
    layers: list[CostLayerPart] = Field(default=[])


class CertificatePart(Part):
    """What is proved at one radius."""

    epsilon_lsb: Count
    n: Count
    accuracy: Share
    worst_case: Share
    unknown: Share
    seconds: Strength
    complete: bool
    model: str = ""
    victim: str = ""


class ResultsPart(Part):
    """results.json."""

    run: str
    rows: list[RowPart]
    input: InputPart | None = None
    task: TaskPart | None = None
    worst_case: list[WorstPart] = Field(default=[])
    certificates: list[CertificatePart] = Field(default=[])
    attacks: list[AttackPart] = Field(default=[])
    exactness: ExactnessPart = Field(default=ExactnessPart())
    cost: CostFiguresPart | None = None
    lipschitz: list[Record] | None = None
    lipschitz_by_bits: list[Annotated[Record, BeforeValidator(_bits_row)]] | None = None
    measures: Annotated[MeasuresPart | None, BeforeValidator(_known_measures)] = None


class EpochPart(Part):
    """An epoch of a training."""

    phase: int
    loss: float | None
    validation_loss: float | None
    validation_accuracy: Share | None = None
    validation_pgd_accuracy: Share | None = None


class MarginPart(Part):
    """A class's margin."""

    label: Count
    mean: float
    std: Strength


class RoundPart(Part):
    """A round of feedback learning."""

    before: list[MarginPart]
    after: list[MarginPart] = Field(default=[])


class TrainingPart(Part):
    """training.json."""

    method: str = ""
    epochs: Count = 0
    best_epoch: Count = 0
    seconds: Strength = 0.0
    history: list[EpochPart] | None = None
    rounds: list[RoundPart] | None = None


class FeaturePart(Part):
    """One number of an input, before and after."""

    feature: str
    clean: float
    attacked: float


class SamplePart(Part):
    """One input, clean and attacked, with [clean, attacked] answers of every victim."""

    index: int
    label: Any  # a class, or the true values
    clean: str
    attacked: str
    answers: list[Annotated[list[Any], Field(min_length=2, max_length=2)]]
    right: list[Annotated[list[bool], Field(min_length=2, max_length=2)]] | None = None
    changes: list[FeaturePart] = Field(default=[])


class VictimPart(Part):
    """Who answers."""

    model: str
    victim: str
    bits: float | None = None


class ExamplesPart(Part):
    """examples.json."""

    attack: str
    epsilon_lsb: Strength | None
    source: str
    shape: Annotated[list[Annotated[int, Field(gt=0, lt=1 << 16)]], Field(min_length=1, max_length=4)]
    victims: list[VictimPart]
    samples: list[SamplePart]
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"] = "uint8"
    task: str = "classes"
    step: Step = 1 / 256
    labels: list[str] | None = None
    epsilon: Strength | None = None
    epsilon_unit: Unit = "lsb"

    @model_validator(mode="after")
    def _fits(self) -> ExamplesPart:
        size = prod(self.shape) * np.dtype(self.dtype).itemsize
        for number, sample in enumerate(self.samples):
            for key, told in (("answers", sample.answers), ("right", sample.right)):
                if told is not None and len(told) != len(self.victims):
                    raise ValueError(f"samples[{number}].{key} must be {len(self.victims)}, one of each victim")
            for key in ("clean", "attacked"):
                try:
                    pixels = base64.b64decode(getattr(sample, key), validate=True)
                except (binascii.Error, ValueError):
                    pixels = b""
                if len(pixels) != size:
                    raise ValueError(f"samples[{number}].{key} must be {size} bytes in base64")
        return self


#: Of the files beside results.json; of those that are not here any object will do.
FILES: dict[str, Any] = {
    "training": TrainingPart | None,
    "quantization": list[QuantizationPart] | None,
    "examples": ExamplesPart | dict[str, None] | None,
    "overflow": OverflowPart | None,
    "project": ProjectPart | None,
    "mapping": Record | None,
    "environment": Record | None,
}
