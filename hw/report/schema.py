"""What a run's JSON files must look like to be read: somebody may have edited them.

Keys that we do not read may hold anything; those that we read have their types.
"""

from __future__ import annotations

import base64
import binascii
from math import prod
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from qmodels.data import Unit
from qmodels.errors import UserError

Value = TypeVar("Value")


class Part(BaseModel):
    """An object of a JSON file."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Strength = Annotated[float, Field(ge=0.0)]
Record = dict[str, Any]


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
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] = [0.0, 1.0]
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
    flags: list[str] = []
    epsilon: Strength | None = None
    epsilon_unit: Unit = "lsb"
    task: str = "classes"
    metric: str = "accuracy"
    errors: dict[str, float] | None = None


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
    quantization_shift: list[Record] | None = None
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


class ResultsPart(Part):
    """results.json."""

    run: str
    rows: list[RowPart]
    input: InputPart | None = None
    task: TaskPart | None = None
    worst_case: list[WorstPart] = []
    attacks: list[AttackPart] = []
    exactness: Record = {}
    cost: Record | None = None
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
    after: list[MarginPart] = []


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
    changes: list[FeaturePart] = []


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


#: Of the files beside results.json; of those that are not here any object will do.
FILES: dict[str, Any] = {
    "training": TrainingPart | None,
    "quantization": list[Record] | None,
    "examples": ExamplesPart | dict[str, None] | None,
    "overflow": OverflowPart | None,
    "project": Record | None,
    "mapping": Record | None,
    "environment": Record | None,
}


def check_shape(shape: Any, plain: Any, where: str) -> None:
    """Whether what was read has a shape.

    Args:
        shape: a class or type of this module.
        plain: values as JSON has them.
        where: the file's name, for the message.

    Raises:
        UserError: names the first key that is wrong, and what it must be.
    """
    try:
        TypeAdapter(shape).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where.removesuffix(':')}: {_key(first['loc'])}{_must(first)}") from None


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and not part.endswith("Part"):  # not the name of one of several types
            text += f".{part}" if text else part
    return f"{text} " if text else ""


def _must(error: Any) -> str:
    limits = error.get("ctx", {})
    words = {
        "missing": "is missing",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "string_type": "must be a text",
        "bool_type": "must be true or false",
        "list_type": "must be a list",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "finite_number": "must be a finite number",
        "greater_than_equal": f"must be {limits.get('ge')} or more",
        "greater_than": f"must be more than {limits.get('gt')}",
        "less_than_equal": f"must be {limits.get('le')} or less",
        "less_than": f"must be less than {limits.get('lt')}",
        "too_short": f"must have {limits.get('min_length')} items or more",
        "too_long": f"must have {limits.get('max_length')} items or less",
        "value_error": str(error["msg"]).removeprefix("Value error, "),
    }
    return words.get(error["type"], str(error["msg"]))
