"""What training can be asked to do. Sizes of feedback learning say whether its source states them or we chose them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qmodels.data import Inputs, RadiusConfig
from qmodels.grid import MAX_INPUT_BITS
from qmodels.training.augment import Augmentation
from qmodels.training.regularizer import DefensiveConfig

Method = Literal[
    "standard",
    "adversarial",
    "trades",
    "feedback",
    "feedback-adversarial",
    "feedback-certified",
    "ensemble",
    "sinkhorn",
    "distillation",
    "tempered",  # at a temperature: a distillation's teacher
    "certified",
]

#: Grid steps between the ends of the widest input.
MOST_STEPS = 2**MAX_INPUT_BITS - 1
_DEFAULT_LSB = 76.0


class AdversarialConfig(BaseModel):
    """PGD adversarial training (Madry 2018, arXiv:1706.06083) and TRADES (Zhang 2019, arXiv:1901.08573)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon_lsb: float = Field(
        default=_DEFAULT_LSB,
        gt=0,
        le=MOST_STEPS,
        description="L-infinity radius in grid steps; of images 1/256",
    )
    epsilon: RadiusConfig | None = Field(default=None, description="the radius in another unit, in place of it")
    steps: int = Field(default=7, ge=1)
    step_lsb: float | None = Field(default=None, gt=0, description="step in LSBs; 2.5 epsilon / steps when left out")
    warmup_epochs: int = Field(
        default=0, ge=0, description="epochs in which epsilon rises to its full value; certified: after a clean one"
    )
    clean_weight: float = Field(default=0.0, ge=0, le=1, description="adversarial: share of the clean cross-entropy")
    beta: float = Field(
        default=6.0, ge=0, description="trades: weight of the divergence between clean and attacked outputs"
    )
    validation_steps: int = Field(default=10, ge=1, description="PGD steps of the validation accuracy")
    validation_samples: int = Field(default=1000, ge=1, description="validation images attacked after each epoch")

    @model_validator(mode="after")
    def _one_radius(self) -> AdversarialConfig:
        if self.epsilon is not None and "epsilon_lsb" in self.model_fields_set and self.epsilon_lsb != _DEFAULT_LSB:
            raise ValueError("give the radius once, as epsilon_lsb or as epsilon: {unit, value}")
        return self

    def in_steps(self, inputs: Inputs, shape: tuple[int, ...]) -> AdversarialConfig:
        """The same with its radius in grid steps.

        Args:
            inputs: how the user's numbers became codes.
            shape: of one input.

        Raises:
            UserError: features would have different radii, or less than half a step.
        """
        if self.epsilon is None:
            return self
        steps = inputs.whole_steps(self.epsilon, shape, "training.adversarial.epsilon")
        return self.model_copy(update={"epsilon_lsb": float(steps), "epsilon": None})


class FeedbackConfig(BaseModel):
    """Feedback learning (Song, Wang, Li 2019, arXiv:1909.05443)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    high_share: float = Field(default=0.2, ge=0, le=1, description="stated: share of classes ranked most robust")
    low_share: float = Field(
        default=0.5, ge=0, le=1, description="stated: share ranked least robust; the rest is medium"
    )
    high_samples: int = Field(default=20, ge=0, description="stated: samples of each most robust class")
    medium_samples: int = Field(default=100, ge=0, description="stated: samples of each class between")
    low_samples: int = Field(default=150, ge=0, description="stated: samples of each least robust class")
    top_directions: int = Field(
        default=40, ge=1, description="stated: directions of smallest margin used for each sample"
    )
    factor_min: float = Field(default=1.5, gt=1, description="stated: nearest new example, in margins")
    factor_max: float = Field(default=2.0, gt=1, description="stated: farthest new example, in margins")
    directions: int = Field(
        default=100, ge=1, description="ours: random orthonormal directions, each tried with both signs"
    )
    rounds: int = Field(default=2, ge=1, description="ours: rounds of measuring, generating and training on")
    epochs_per_round: int = Field(default=20, ge=1, description="ours: epochs on original and generated examples")
    examples_per_original: float = Field(
        default=0.25, gt=0, description="ours: new examples an epoch takes for each original, drawn again every epoch"
    )
    round_learning_rate: float = Field(default=2e-3, gt=0, description="ours: learning rate at the start of each round")
    probe_samples: int = Field(default=20, ge=1, description="ours: training samples per class that rank the classes")
    t_max: float = Field(
        default=0.3, gt=0, description="ours: margins beyond are infinite; RMS pixel change, image range 1"
    )
    t_start: float = Field(default=0.1, gt=0, description="ours: first distance tried; RMS pixel change")
    growth: float = Field(default=1.75, gt=1, description="ours: ratio of successive distances while bracketing")
    tolerance: float = Field(default=0.05, gt=0, lt=1, description="ours: bisection ends at this relative width")

    @model_validator(mode="after")
    def _consistent(self) -> FeedbackConfig:
        if self.high_share + self.low_share > 1:
            raise ValueError(f"high_share + low_share is {self.high_share + self.low_share:g}; allowed: at most 1")
        if self.factor_min > self.factor_max:
            raise ValueError(f"factor_min {self.factor_min:g} is above factor_max {self.factor_max:g}")
        return self


class EnsembleConfig(BaseModel):
    """Ensemble adversarial training (Tramèr 2018, arXiv:1705.07204): examples also of models that stand still."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: int = Field(default=2, ge=1, description="static models, trained as usual from seeds of their own")
    epochs: int = Field(default=20, ge=1, description="ours: of each static model")
    epsilon_lsb: float | None = Field(
        default=None, gt=0, le=MOST_STEPS, description="of FGSM on static models; left out: adversarial.epsilon_lsb"
    )


class SinkhornConfig(BaseModel):
    """Sinkhorn adversarial training: the attacked logits of a batch stay close to the clean ones, as distributions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regularization: float = Field(default=1.0, gt=0, description="of the entropy of the transport plan")
    iterations: int = Field(default=50, ge=1, description="of Sinkhorn's algorithm")
    weight: float = Field(default=1.0, ge=0, description="ours: weight of the distance, added to the cross-entropy")


class DistillationConfig(BaseModel):
    """Defensive distillation (Papernot 2016, arXiv:1511.04508)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=20.0, ge=1, description="logits are divided by it while training")
    alpha: float = Field(
        default=0.1, ge=0, le=1, description="share of the true labels; the rest are the teacher's outputs"
    )
    teacher_epochs: int | None = Field(default=None, ge=1, description="left out: epochs")


class QuantizationAwareConfig(BaseModel):
    """A second training, through the mapping and the low-bit quantizers, from where the first one ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_bits: tuple[int, ...] = Field(
        default=(), description="ours: phases of as many epochs each with these weight bits, before the final ones"
    )


class TrainingConfig(BaseModel):
    """One training. `epochs` are those before the first feedback round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "standard"
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="cosine falls to zero over the epochs"
    )
    augmentation: Augmentation = Field(
        default="none",
        description="flip-crop: every image is mirrored or not, and shifted by up to 4 pixels; shift: by up to 1 pixel",
    )
    patience: int = Field(default=10, ge=1, description="stop after so many epochs without a better validation score")
    quantization_aware: QuantizationAwareConfig | None = Field(
        default=None, description="train on with the same method through the accelerator's weights and activations"
    )
    defensive: DefensiveConfig = Field(default_factory=DefensiveConfig)
    adversarial: AdversarialConfig = Field(default_factory=AdversarialConfig)
    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig)
    ensemble: EnsembleConfig = Field(default_factory=EnsembleConfig)
    sinkhorn: SinkhornConfig = Field(default_factory=SinkhornConfig)
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)

    def aware_phase(self) -> TrainingConfig:
        """The settings of the quantization-aware phase: the same method, its own length and learning rate.

        Raises:
            ValueError: there is no such phase.
        """
        if self.quantization_aware is None:
            raise ValueError("quantization_aware is not set")
        own = self.quantization_aware
        adversarial = self.adversarial.model_copy(update={"warmup_epochs": 0})
        changes = {"epochs": own.epochs, "learning_rate": own.learning_rate, "adversarial": adversarial}
        return self.model_copy(update=changes | {"quantization_aware": None})

    @property
    def static_models(self) -> int:
        """How many models must have been trained before and stand still: an ensemble's others, or the teacher."""
        return {"ensemble": self.ensemble.models, "distillation": 1}.get(self.method, 0)

    def static_phase(self) -> TrainingConfig:
        """The settings of the training of a static model.

        Raises:
            ValueError: the method has none.
        """
        if self.method not in ("ensemble", "distillation"):
            raise ValueError(f"{self.method} needs no static models")
        own = {"method": "standard", "epochs": self.ensemble.epochs}
        if self.method == "distillation":
            own = {"method": "tempered", "epochs": self.distillation.teacher_epochs or self.epochs}
        return self.model_copy(update={**own, "quantization_aware": None})

    @property
    def attacks(self) -> bool:
        """Whether training sees adversarial examples."""
        return self.method in ("adversarial", "trades", "feedback-adversarial", "ensemble", "sinkhorn")

    @property
    def certifies(self) -> bool:
        """Whether training minimises bounds over the whole ball (interval bound propagation)."""
        return self.method in ("certified", "feedback-certified")

    @property
    def has_ball(self) -> bool:
        """Whether training knows a radius, which may warm up."""
        return self.attacks or self.certifies

    @property
    def rounds(self) -> int:
        """Feedback rounds after the first phase."""
        return self.feedback.rounds if self.method.startswith("feedback") else 0
