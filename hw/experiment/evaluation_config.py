"""The config's evaluation section: what is attacked, how hard, and what is proved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hw.experiment.config_text import Section
from qmodels.architectures import ModelConfig
from qmodels.attacks import AnyAttack, Attack
from qmodels.data import Unit
from qmodels.grid import MAX_INPUT_BITS
from qmodels.quantize.model import QuantizationConfig
from qmodels.quantize.mulaw import MappingConfig
from qmodels.training import TrainingConfig


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
    ask_float: bool = Field(
        False, description="attacks without gradients ask the float model too, not only the accelerator"
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
