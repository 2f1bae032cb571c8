"""What `robust-hls size` reads: an experiment, a space of config keys around it, and how hard to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from hw.experiment.config import RunConfig, load_config
from hw.experiment.config_text import Section, parse_config, read_text
from hw.experiment.evaluation_config import AttackPlan
from hw.experiment.settings import Settings
from qmodels.attacks import WorstCase
from qmodels.data import Dataset, RadiusConfig
from qmodels.errors import UserError
from qmodels.grid import MAX_INPUT_BITS

_AWARE = "training.quantization_aware"

Scalar = bool | int | float | str
Choice = Scalar | list[Scalar] | dict[str, Scalar] | None
CostAxis = Literal["weight_bits", "ebops", "latency_cycles", "luts", "bram_18k", "dsps"]


class DescentConfig(Section):
    """The descent: all start wide; each step takes a bit where it does least damage for what it saves."""

    from_bits: int = Field(8, ge=2, le=8, description="weight bits of every layer at the start")
    to_bits: int = Field(2, ge=2, le=8, description="no layer gets fewer")
    activations_from: int = Field(8, ge=2, le=8, description="bits of every ReLU at the start")
    activations_to: int | None = Field(3, ge=2, le=8, description="no ReLU gets fewer; null: they stay as they are")

    @model_validator(mode="after")
    def _descends(self) -> DescentConfig:
        if self.to_bits > self.from_bits:
            raise ValueError(f"to_bits {self.to_bits} is above from_bits {self.from_bits}")
        if (self.activations_to or 0) > self.activations_from:
            raise ValueError(f"activations_to {self.activations_to} is above activations_from {self.activations_from}")
        return self


class SearchConfig(Section):
    """Optuna's multi-objective search: attacked accuracy up, cost down."""

    trials: int = Field(64, ge=1, description="designs that are asked for")
    batch: int = Field(8, ge=1, description="designs computed at the same time, so that workers are busy")
    sampler: Literal["nsga2", "tpe"] = "nsga2"
    seed: int = Field(0, ge=0, lt=2**31)


class ScreeningConfig(Section):
    """Which designs are put to the worst case: those that the pool of adversarial examples leaves hopeful."""

    seeds: int = Field(3, ge=1, description="designs of each training that are attacked first: they begin the pool")
    round: int = Field(
        16, ge=1, description="designs that are attacked in one round, before their examples are tried on the others"
    )
    off: bool = Field(False, description="no screening: the worst case on every design")


class WorstCaseConfig(Section):
    """The score: accuracy that survives every attack, on many validation images."""

    attack: WorstCase = WorstCase()
    epsilon_lsb: int = Field(16, ge=1, lt=2**MAX_INPUT_BITS, description="radius in grid steps; of images 1/256")
    epsilon: RadiusConfig | None = Field(None, description="the radius in another unit, in place of it")
    images: int = Field(500, ge=1)


class FinalConfig(Section):
    """The front, once more: on test images, with the exactness gate."""

    images: int = Field(500, ge=1, description="test images that are attacked")
    seeds: tuple[int, ...] = Field(
        (), description="chosen designs are trained and attacked again with each of these seeds, on test images"
    )
    attacks: tuple[AttackPlan, ...] = Field((), description="attacks besides the worst case, for the curves and flags")
    designs: int = Field(24, ge=1, description="at most so many designs of the fronts, the recommended ones first")


class RecommendConfig(Section):
    """Which designs are named."""

    within: float = Field(0.01, ge=0.0, lt=1.0, description="smallest design within this accuracy of the best")
    budgets: tuple[int, ...] = Field((), description="best design under so many weight bits; default: three budgets")


class SizingConfig(Section):
    """The whole question."""

    name: str = Field("sizing", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="folder's name")
    experiment: Path | dict[str, Any] | None = Field(
        None,
        description="a config of `robust-hls run`, or its sections: {model: my.keras, data: a.npz}; default: the demo, "
        "rounded after training",
    )
    fixed: dict[str, Choice] = Field({}, description="dotted config keys set for every design")
    space: dict[str, list[Choice]] = Field({}, description="dotted config keys and the values to try")
    mode: Literal["grid", "layerwise", "search"] = "grid"
    layerwise: DescentConfig = DescentConfig()
    search: SearchConfig = SearchConfig()
    screening: ScreeningConfig = ScreeningConfig()
    worst_case: WorstCaseConfig = WorstCaseConfig()
    final: FinalConfig = FinalConfig()
    recommend: RecommendConfig = RecommendConfig()
    costs: tuple[CostAxis, ...] = Field(("weight_bits", "ebops", "latency_cycles"), min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> SizingConfig:
        for key, values in self.space.items():
            if not values:
                raise ValueError(f"space.{key}: an empty list; name at least one value")
            if key in self.fixed:
                raise ValueError(f"{key} is both in `fixed` and in `space`")
        if self.mode != "layerwise" and not self.space:
            raise ValueError("space: no key to vary; for example `quantization.weight_bits: [2, 3, 4]`")
        chosen = ("weight_bits", "activation_bits") if self.layerwise.activations_to is not None else ("weight_bits",)
        bits = sorted(key for key in self.space if key.startswith("quantization.") and key.endswith(chosen))
        if self.mode == "layerwise" and bits:
            raise ValueError(f"space: {bits[0]} is what mode layerwise chooses; remove it or use mode grid")
        if any(plan.unit != "lsb" for plan in self.final.attacks):
            raise ValueError("final.attacks: sizing counts ε in grid steps; give epsilons_lsb")
        return self


def in_steps(config: SizingConfig, data: Dataset) -> SizingConfig:
    """The same with the worst case's radius in grid steps of the data.

    Raises:
        UserError: features would have different radii, or the radius is less than a step or more than the format.
    """
    asked, key = config.worst_case, "worst_case.epsilon"
    steps = asked.epsilon_lsb
    if asked.epsilon is not None:
        steps = data.inputs.whole_steps(asked.epsilon, data.input_shape, key)
    if steps > (most := data.grid.format.raw_max - data.grid.format.raw_min):
        raise UserError(f"{key}: {steps} grid steps; inputs of {data.name!r} move by {most} at most")
    return config.model_copy(update={"worst_case": asked.model_copy(update={"epsilon_lsb": steps, "epsilon": None})})


def load_sizing(source: Path, settings: Settings | None = None) -> SizingConfig:
    """Read and check a sizing config; a relative `experiment` is beside the file.

    Raises:
        UserError: names the file, the key, and what is allowed.
    """
    config = parse_config(SizingConfig, read_text(source), str(source), settings)
    if not isinstance(config.experiment, Path):
        return config
    found = config.experiment if config.experiment.is_absolute() else source.parent / config.experiment
    return config.model_copy(update={"experiment": found})


def load_experiment(config: SizingConfig, where: str) -> RunConfig:
    """The experiment of a sizing, with what is fixed for every design.

    In a config's sections `model: FILE` and `data: NAME` stand for `model: {file: FILE}` and `data: {name: NAME}`.

    Raises:
        UserError: as for `load_config`; `where` is where the sizing's config was read.
    """
    if config.experiment is None and not any(key.startswith(_AWARE) for key in (*config.fixed, *config.space)):
        return load_config(None, {_AWARE: None, **config.fixed}, "fixed:")  # else every design is a training of its own
    if not isinstance(config.experiment, dict):
        return load_config(config.experiment, config.fixed, "fixed:")
    sections = dict(config.experiment)
    for section, key in (("model", "file"), ("data", "name")):
        if isinstance(sections.get(section), str):
            sections[section] = {key: sections[section]}
    text = yaml.safe_dump(sections, allow_unicode=True)
    return parse_config(RunConfig, text, f"{where}: experiment", config.fixed, "fixed:")


def dump_sizing(config: SizingConfig) -> str:
    """The resolved config as YAML."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
