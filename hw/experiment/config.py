"""The experiment: one YAML file, checked before anything runs, every default written out beside the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from hw.experiment.settings import Settings, abridged, merge
from hw.generate.hardware import HardwareConfig
from hw.rtl.config import RtlConfig
from hw.tools.plain_yaml import read_yaml
from qmodels.architectures import ModelConfig
from qmodels.attacks import AnyAttack, Attack, attack_class
from qmodels.criteria import GroupMisclassification
from qmodels.data import InputConfig, Unit
from qmodels.defences import DefenceConfig
from qmodels.errors import UserError, allowed_names
from qmodels.grid import MAX_INPUT_BITS
from qmodels.quantize.model import QuantizationConfig
from qmodels.quantize.mulaw import MappingConfig
from qmodels.tflite import Pixels
from qmodels.training import TrainingConfig

DEFAULT_CONFIG = "digits"
Config = TypeVar("Config", bound=BaseModel)


class Section(BaseModel):
    """A part of the config: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Section):
    """Which data, how they are split, and how they become what the device reads."""

    name: str = Field(
        "digits",
        description="digits, breast_cancer, wine, mnist, fashion_mnist, cifar10, or a path: an .npz, a .csv or "
        ".parquet table, a folder with one subfolder of pictures per class",
    )
    label: str | None = Field(None, description="a table's column with the class")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="of tables and folders of pictures")
    input: InputConfig = InputConfig()
    inputs: dict[str, InputConfig] = Field({}, description="as input, for single ones of a model's several inputs")
    validation_share: float = Field(0.1, gt=0, lt=0.9)
    limit_train: int | None = Field(None, ge=2)
    limit_test: int | None = Field(None, ge=1)


class TaskConfig(Section):
    """What the model is for, and when an attack on it has succeeded. Left out: read from the model and the data."""

    kind: Literal["auto", "classes", "binary", "regression", "anomaly"] = Field(
        "auto", description="auto: by the labels and the model's outputs; others than classes need model.file"
    )
    target: int | None = Field(None, ge=0, description="classes: an attack must reach this class")
    groups: tuple[tuple[int, ...], ...] = Field((), description="classes: one must leave its group of classes")
    tolerance: float | None = Field(None, gt=0, description="regression: how far an output may move")
    relative: bool = Field(False, description="regression: the tolerance is a share of the reference's size")
    reference: Literal["clean", "truth"] = Field("clean", description="regression: from the clean outputs or from y")
    false_positive_rate: float = Field(0.05, gt=0, lt=1, description="anomaly: of normal validation samples")
    direction: Literal["hide", "alarm"] = Field("hide", description="anomaly: hide one, or raise a false alarm")

    @model_validator(mode="after")
    def _one_criterion(self) -> TaskConfig:
        if self.target is not None and self.groups:
            raise ValueError("target and groups exclude each other; leave one out")
        if self.groups:
            GroupMisclassification(groups=self.groups)  # raises where a class is in two groups
        return self


class OwnModelConfig(ModelConfig):
    """One of our architectures, or your own model file."""

    file: Path | None = Field(
        None, description="your own model (.keras, .h5, .json, .onnx, a SavedModel folder); then nothing is trained"
    )
    weights: Path | None = Field(None, description="weights .h5 of a .json architecture; default: the file next to it")
    prepare: bool = Field(
        False, description="give your float model what quantization needs: an input grid, and a layer for every ReLU"
    )
    repair: bool = Field(False, description="fix what breaks the exactness contract, where the outputs do not change")
    pixels: Pixels = Field("grid", description="what a .tflite file takes an 8-bit pixel for: k/256, k/255, ...")
    surrogate: Path | None = Field(None, description="a Keras model whose gradients attacks on a .tflite file follow")


class EpsilonConfig(Section):
    """Radii in a unit of the user's choice."""

    unit: Unit = Field(
        description="lsb: grid steps; value: the data's own unit; sigma: deviations of the training data"
    )
    values: tuple[float, ...] = Field(min_length=1, description="radii in that unit")


class AttackPlan(Section):
    """One attack at several strengths."""

    attack: AnyAttack
    epsilon: EpsilonConfig | None = Field(None, description="radii in another unit, instead of epsilons_lsb")
    epsilons_lsb: tuple[float, ...] = Field((), description="radii in LSBs, grid steps; of images 1/256")

    @field_validator("epsilons_lsb")
    @classmethod
    def _some_epsilon(cls, given: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if not given and info.data.get("epsilon") is None:
            raise ValueError("give one radius at least")
        return given

    @field_validator("epsilon", mode="before")
    @classmethod
    def _epsilon_is_a_section(cls, given: Any) -> Any:
        if given is None or isinstance(given, (dict, EpsilonConfig)):
            return given
        raise ValueError(
            f"must be a section such as {{unit: sigma, values: [0.1]}}; got {given!r}; did you mean 'epsilons_lsb'?"
        )

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii, in `unit`."""
        return self.epsilon.values if self.epsilon is not None else self.epsilons_lsb

    @property
    def unit(self) -> Unit:
        """Of the radii: grid steps, the data's own unit, or standard deviations."""
        return self.epsilon.unit if self.epsilon is not None else "lsb"

    @model_validator(mode="after")
    def _epsilons_fit_the_attack(self) -> AttackPlan:
        if bool(self.epsilons_lsb) == (self.epsilon is not None):
            raise ValueError("epsilons_lsb: give the radii once, in epsilons_lsb or in epsilon: {unit, values}")
        if self.unit != "lsb":
            _check_real(self.attack, self.radii)
            return self
        for epsilon in self.epsilon.values if self.epsilon is not None else ():
            check_epsilon(self.attack, epsilon, "epsilon.values")
        for epsilon in self.epsilons_lsb:
            check_epsilon(self.attack, epsilon, "epsilons_lsb")
        return self


class EvaluationPlan(AttackPlan):
    """One attack at several strengths, on as many test images as it deserves."""

    samples: int | None = Field(None, ge=1, description="test images of this attack; left out: evaluation.samples")


def _check_real(attack: Attack, radii: Sequence[float]) -> None:
    """Raise ValueError if the attack cannot use these radii, in another unit than grid steps."""
    if attack.norm == "l0":
        raise ValueError(f"epsilon.unit: {attack.kind} counts features; give epsilons_lsb")
    unbounded = attack.family == "minimal-norm" or attack.norm != "linf"
    for epsilon in radii:
        if not epsilon > 0 or (math.isinf(epsilon) and not unbounded):
            allowed = "above 0, or .inf for no bound" if unbounded else "numbers above 0"
            raise ValueError(f"epsilon.values: {attack.kind} cannot use {epsilon:g}, allowed: {allowed}")


def check_epsilon(attack: Attack, epsilon: float, key: str) -> None:
    """Raise ValueError, naming the key, if the attack cannot use that radius (in LSBs)."""
    least, most = epsilon_range(attack)
    whole = attack.norm != "linf" or math.isinf(epsilon) or float(epsilon).is_integer()
    if least <= epsilon <= most and whole:  # NaN is in no range; a pixel moves by whole LSBs
        return
    bounded = f"whole numbers {least:g} .. {most:.0f} LSB, of 8-bit images .. 255"
    allowed = bounded if math.isfinite(most) else "above 0 LSB, or .inf for no bound"
    meant = f"; {epsilon:g} of the pixel range is {epsilon * 256:g} LSB" if 0 < epsilon < 1 else ""
    raise ValueError(f"{key}: {attack.kind} cannot use {epsilon:g}, allowed: {allowed}{meant}")


def epsilon_range(attack: Attack) -> tuple[float, float]:
    """Smallest and largest radius in LSBs, whatever the data, which `plan_radii` knows; other norms add features up."""
    if attack.norm == "linf":
        return 1.0, math.inf if attack.family == "minimal-norm" else 2.0**MAX_INPUT_BITS - 1
    return math.nextafter(0.0, 1.0), math.inf


class SimulationConfig(Section):
    """Which simulator stands for the accelerator, and how much of it hls4ml's own C simulation checks."""

    engine: Literal["bitsim", "csim"] = Field("bitsim", description="csim: hls4ml's own, thousands of times slower")
    verify_samples: int = Field(256, ge=1, description="inputs of each gate that csim checks when bitsim is the engine")
    verify_random: int = Field(500, ge=0, description="random images in the gate, besides the extreme ones")


class BlackBoxModel(Section):
    """A model of the attacker's own, trained apart from the run on the same data, without ever seeing the run's."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$", description="its name in tables")
    seed: int | None = Field(None, ge=0, lt=2**31, description="left out: the run's plus one")
    model: ModelConfig | None = Field(None, description="left out: the run's architecture")
    training: TrainingConfig | None = Field(None, description="left out: trained as the run's model")
    mapping: MappingConfig = Field(MappingConfig(), description="left out: unmapped")
    quantization: QuantizationConfig | None = Field(None, description="left out: float")


class CertificatePlan(Section):
    """What is to be proved of the accelerator, and how hard to try."""

    epsilons_lsb: tuple[Annotated[int, Field(ge=1, lt=1 << 24)], ...] = Field(
        (), description="L-infinity radii in whole LSB; none: nothing is proved"
    )
    samples: int | None = Field(None, ge=1, description="test images; left out: evaluation.samples")
    complete: bool = Field(False, description="branch and bound where the quick methods leave an image open")
    timeout: float = Field(10.0, gt=0.0, le=86400.0, description="processor seconds for each image they leave open")


class EvaluationConfig(Section):
    """What is attacked, how hard, on how many test images."""

    samples: int = Field(1000, ge=1, description="test images per attack, unless it names its own number")
    clean_samples: int | None = Field(
        None, ge=1, description="test images of one more clean accuracy, bit for bit compared; none when left out"
    )
    check_convergence: bool = Field(True, description="run iterative attacks once more with twice the iterations")
    attacks: tuple[EvaluationPlan, ...] = ()
    certificate: CertificatePlan = Field(CertificatePlan(), description="prove what no attack can do")
    black_box: tuple[BlackBoxModel, ...] = Field((), description="models whose examples are tried on the run's")

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluationConfig:
        names = [model.name for model in self.black_box]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"black_box: {names.count(name)} models are named {name!r}; give each its own name")
        return self


class TestBenchConfig(Section):
    """How many inputs the HLS project's test bench holds; RTL cosimulation is slow."""

    __test__ = False  # not a pytest class

    clean: int = Field(64, ge=1, description="clean test images in tb_data")
    adversarial: int = Field(128, ge=0, description="adversarial examples in tb_data, in turn from every attack")


class RunConfig(Section):
    """The whole experiment."""

    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="run folder's name")
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    model: OwnModelConfig = OwnModelConfig()
    training: TrainingConfig = TrainingConfig()
    defence: DefenceConfig = DefenceConfig()
    mapping: MappingConfig = MappingConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    hardware: HardwareConfig = HardwareConfig()
    exactness: Literal["auto", "required", "reported"] = Field(
        "auto",
        description="required: the accelerator gives the model's bits, or the run stops; reported: the difference is "
        "told; auto: required, reported for your own model where hls4ml cannot give its bits",
    )
    simulation: SimulationConfig = SimulationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    testbench: TestBenchConfig = TestBenchConfig()
    rtl: RtlConfig = RtlConfig()

    @model_validator(mode="after")
    def _black_box_models_can_be_trained(self) -> RunConfig:
        for model in self.evaluation.black_box:
            if self.model.file is not None and model.model is None:
                raise ValueError(
                    f"evaluation.black_box: {model.name} has no model section, and the run's own file cannot be "
                    "trained again; add one, for example model: {architecture: cnn4}"
                )
        return self

    def apart(self, model: BlackBoxModel) -> RunConfig:
        """The config of the run that trains a model of the attacker's own."""
        return self.model_copy(
            update={
                "name": model.name,
                "seed": (self.seed + 1) % 2**31 if model.seed is None else model.seed,
                "model": OwnModelConfig(**model.model.model_dump()) if model.model else self.model,
                "training": model.training or self.training,
                "mapping": model.mapping,
                "quantization": model.quantization or self.quantization,
                "evaluation": EvaluationConfig(),
                "defence": DefenceConfig(),
            }
        )

    @property
    def float_config(self) -> RunConfig:
        """The experiment without the quantization-aware phase."""
        training = self.training.model_copy(update={"quantization_aware": None})
        return self.model_copy(update={"training": training})

    @property
    def distilled(self) -> bool:
        """Whether the network comes from defensive distillation."""
        return self.training.method == "distillation" and self.model.file is None

    @property
    def defended_training(self) -> bool:
        """Whether the network was trained to withstand attacks."""
        return self.model.file is None and (self.training.attacks or self.training.method == "distillation")

    @property
    def model_label(self) -> str:
        """The row's name in tables before mapping: `Orig.`, `Adv.`, `F.L.`, or the own model's file name."""
        if self.model.file is not None:
            return self.model.file.stem
        labels = {"standard": "Orig.", "adversarial": "Adv.", "feedback": "F.L.", "trades": "TRADES"}
        labels |= {"ensemble": "Ens.", "sinkhorn": "Sinkhorn", "distillation": "Dist."}
        return labels.get(self.training.method, self.training.method)

    @property
    def mapped_label(self) -> str:
        """The row's name after the µ-law mapping."""
        return f"{self.model_label}+mu" if self.mapping.mu > 0 else self.model_label

    @property
    def table_label(self) -> str:
        """The same, behind the defence where there is one: what an attacker is up against."""
        return self.mapped_label + self.defence.label


def load_config(source: Path | None, settings: Settings | None = None, origin: str = "--set") -> RunConfig:
    """Read, change and check an experiment.

    Args:
        source: a YAML file; None: the embedded digits experiment.
        settings: dotted keys and their values, which change what the file says.
        origin: where the settings were written, for messages.

    Raises:
        UserError: names the file, the key, what is allowed, and for a misspelt key the nearest one.
    """
    where = str(source) if source else f"embedded {DEFAULT_CONFIG}.yaml"
    text = (
        read_text(source)
        if source
        else files("hw.experiment").joinpath(f"{DEFAULT_CONFIG}.yaml").read_text(encoding="utf-8")
    )
    return parse_config(RunConfig, text, where, settings, origin)


def parse_config(
    root: type[Config], text: str, where: str, settings: Settings | None = None, origin: str = "--set"
) -> Config:
    """A config of class `root` from YAML text, changed by settings and checked.

    Raises:
        UserError: as for `load_config`; `where` is what it calls the source.
    """
    settings = settings or {}
    raw = parse_mapping(root, text, where)
    told = origin.rstrip(":")

    def source(key: str) -> str:
        """Where a key was written: among the settings, in the file, or (a section) in both."""
        inside = [own for own in settings if own.startswith(f"{key}.")]
        if any(key == own or key.startswith(f"{own}.") for own in settings) or (inside and not _holds(raw, key)):
            return told
        return f"{where}, with {told} {', '.join(inside)}" if inside else where

    return check_config(root, merge(raw, settings, origin), source)


def parse_mapping(root: type[BaseModel], text: str, where: str) -> dict[str, Any]:
    """The plain mapping of YAML text that should hold a `root`; UserError if it is none."""
    try:
        raw = read_yaml(text)
    except ValueError as error:
        raise UserError(f"{where}: not plain YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping of sections ({', '.join(root.model_fields)})")
    return raw


def check_config(root: type[Config], raw: dict[str, Any], where: Callable[[str], str]) -> Config:
    """A config of class `root` from a plain mapping; UserError as for `load_config`.

    `where` tells, for messages, in which source a dotted key was written.
    """
    try:
        config = root.model_validate(raw)
    except ValidationError as error:
        lines = (f"{where('.'.join(map(str, item['loc'])))}: {_explain(item, root, raw)}" for item in error.errors())
        raise UserError("\n".join(lines)) from None
    for key in _not_finite(config.model_dump()):
        raise UserError(f"{where(key)}: {key}: must be a finite number")
    return config


def _holds(raw: Any, key: str) -> bool:
    """Whether a dotted key is in a plain mapping."""
    for part in key.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return False
        raw = raw[part]
    return True


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML: every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_text(path: Path) -> str:
    """A text file's content; UserError when there is none."""
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise UserError(f"{path}: is no file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({error})") from None


def _explain(item: Any, root: type[BaseModel], raw: Any) -> str:
    location = item["loc"]
    key = ".".join(str(part) for part in location)
    owner = _owner(location, root, raw)
    if item["type"] == "extra_forbidden":
        known = list(owner.model_fields) if owner else []
        return f"{key}: unknown key" + allowed_names(str(location[-1]), known)
    got = abridged(item["input"])
    if item["type"] == "unknown_attack":
        return f"{key}.kind: {item['msg']}"
    if item["type"] == "attack_without_kind":
        return f"{key}: {item['msg']}; got {got}"
    if item["type"] == "literal_error":
        return f"{key}: {got} is not allowed" + allowed_names(str(item["input"]), _alternatives(location, root, raw))
    if item["type"] == "value_error":  # our own validators say what they got
        told: str = item["msg"].removeprefix("Value error, ")
        return f"{key}: {told}" if key else told
    message = _PLAIN.get(item["type"], item["msg"][:1].lower() + item["msg"][1:])
    return f"{key}: {message}; got {got}" + _field_hint(location, owner)


#: pydantic's words for these name Python types, which mean nothing to you as you write YAML.
_PLAIN = {
    "model_type": "must be a section of `key: value` lines",
    "model_attributes_type": "must be a section of `key: value` lines",
    "dict_type": "must be a section of `key: value` lines",
    "tuple_type": "must be a list, as in [a, b]",
    "missing": "is missing",
}


def _alternatives(location: Sequence[Any], root: type[BaseModel], raw: Any) -> list[str]:
    while location and isinstance(location[-1], int):  # an item of a list
        location = location[:-1]
    owner = _owner(location, root, raw)
    field = owner.model_fields.get(str(location[-1])) if owner else None
    return [str(value) for value in _literals(field.annotation)] if field else []


def _literals(annotation: Any) -> tuple[Any, ...]:
    """The values of the first Literal in an annotation, bare, optional or in a list."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for inner in get_args(annotation) if (found := _literals(inner))), ())


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Keys of NaN and infinite numbers; an epsilon may be infinite and has its own check."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        if name not in ("epsilons_lsb", "epsilon_lsb", "epsilon"):
            yield from _not_finite(item, f"{key}.{name}" if key else str(name))


def _owner(location: Sequence[Any], root: type[BaseModel], raw: Any) -> type[BaseModel] | None:
    """The model class whose key is the last part of `location`; which attack it is, the raw mapping tells."""
    node: Any = root
    for part in location[:-1]:
        raw = _inside(raw, part)
        if not isinstance(part, int):
            field = getattr(node, "model_fields", {}).get(part)
            if field is None:
                return None
            node = _section_in(field.annotation)
        if node is Attack and isinstance(raw, dict):
            node = attack_class(str(raw.get("kind"))) or Attack
    return node if isinstance(node, type) and issubclass(node, BaseModel) else None


def _inside(raw: Any, part: Any) -> Any:
    """An item of a raw config; None where there is none."""
    try:
        return raw[part]
    except (KeyError, IndexError, TypeError):
        return None


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, bare, optional or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)


def _field_hint(location: Sequence[Any], owner: type[BaseModel] | None) -> str:
    field = owner.model_fields.get(str(location[-1])) if owner and location else None
    return f" ({field.description})" if field and field.description else ""
