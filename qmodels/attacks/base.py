"""An attack is a frozen config object; calling it is final: projection, success and counting happen here.

Subclasses write `run`, the algorithm, and may be sloppy about the ball and the grid; `__call__` is not.
Adding an attack is writing one class: it has a `kind`, and registers itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from qmodels.attacks.ball import Ball, Epsilon, Norm
from qmodels.criteria import MISCLASSIFICATION, Criterion, Truth
from qmodels.digest import digest_of
from qmodels.errors import UserError, allowed_names
from qmodels.grid import Codes, InputGrid, Points
from qmodels.statistics import wilson
from qmodels.victims import GradientModel, GradientVictim, Logits, Victim

Knowledge = Literal["white-box", "black-box", "transfer", "none"]
Family = Literal["gradient", "minimal-norm", "score", "decision", "noise", "worst-case", "none"]


def look_like_probabilities(logits: Logits) -> bool:
    """Whether outputs are non-negative and add up to 1: softmax outputs handed in as logits."""
    sums = logits.sum(axis=1)
    return bool(len(logits)) and bool((logits >= 0).all() and np.allclose(sums, 1.0, atol=1e-3))


@dataclass
class Problem:
    """What an attack is given: a victim, the balls around clean inputs, what is right, and when it has won.

    The victim's queries are counted here and nowhere else: `logits` counts what it is shown, a compiled loop that
    asks the victim's own model says so by `count`.
    """

    victim: Victim
    ball: Ball
    y: Truth
    criterion: Criterion = MISCLASSIFICATION
    state: Path | None = None  # where a long attack may keep its progress
    starts: Codes | None = None  # inputs of the attacker's own, from which attacks that see decisions may begin
    begin: Codes | None = None  # (N, ...) where gradient attacks begin their first trial
    for_others: bool = False  # examples will be tried on other victims: inputs that have fallen go on
    queries: int = 0
    non_finite: int = 0

    @property
    def clean(self) -> Codes:
        """Codes (N, ...) of the clean inputs."""
        return self.ball.clean

    @property
    def grid(self) -> InputGrid:
        """What inputs can be."""
        return self.ball.grid

    @property
    def gradient_model(self) -> GradientModel:
        """The model whose gradients may be followed.

        Raises:
            UserError: the victim gives outputs only.
        """
        if isinstance(self.victim, GradientVictim):
            return self.victim.gradient_model
        raise UserError(
            f"victim {self.victim.name!r} gives no gradients: attack it with square, hopskipjump or another black-box "
            "attack, or make the examples on the quantized model and score them there"
        )

    def count(self, inputs: int) -> None:
        """Note that so many inputs were shown to the victim's model inside a compiled loop."""
        self.queries += inputs

    def logits(self, x: Codes) -> Logits:
        """The victim's outputs, counted; so are those that are not finite."""
        self.count(len(x))
        logits = self.victim.logits(x)
        self.non_finite += int(np.sum(~np.isfinite(logits).all(axis=1)))
        return logits

    def fooled(self, x: Codes, rows: Any = slice(None)) -> NDArray[np.bool_]:
        """Where inputs `x`, made from the clean ones at `rows`, fool the victim."""
        return self.criterion.fooled(self.logits(x), self.y[rows])

    def margins(self, x: Codes, rows: Any = slice(None)) -> NDArray[np.float64]:
        """How far the victim is from being fooled by `x`, made from the clean inputs at `rows`."""
        return self.criterion.margins(self.logits(x), self.y[rows])


@dataclass(frozen=True)
class Diagnostics:
    """What an attack noticed about its gradients; feeds the masking flags."""

    zero_gradient_share: float = 0.0
    non_finite_share: float = 0.0
    softmax_outputs: bool = False
    #: Per image, the queries spent until it fell, -1 where it never did; black-box attacks fill it in.
    queries_to_success: tuple[int, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Adversarial examples of one attack at one epsilon, with the evidence. `print` gives one line."""

    attack: str  # label
    x: Codes  # (N, ...) on the grid and in the ball
    success: NDArray[np.bool_]  # (N,) the attacked victim is wrong on x
    epsilon_lsb: Epsilon  # in grid steps
    queries: int  # inputs shown to the victim
    seconds: float
    seed: int
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    unbounded: bool = False  # the ball was the whole grid
    #: What spoils the number (qmodels/metrics/masking.py); None: nobody has checked.
    flags: tuple[str, ...] | None = None

    @property
    def _flags_text(self) -> str:
        return "not checked" if self.flags is None else ", ".join(self.flags) or "none"

    def __str__(self) -> str:
        radius = f"{np.max(self.epsilon_lsb):g} steps" if np.all(np.isfinite(self.epsilon_lsb)) else "no bound"
        low, high = wilson(int((~self.success).sum()), len(self.success))
        count = len(self.success)
        return (
            f"{self.attack}, {radius}: accuracy {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {count} inputs, "
            f"{self.queries:,} queries, flags: {self._flags_text}"
        )

    @property
    def accuracy(self) -> float:
        """The attacked victim's accuracy on these examples."""
        return float(1.0 - self.success.mean())

    def accuracy_after(self, queries: int) -> float:
        """Accuracy had every image been given only this many queries: the accuracy-vs-queries curve.

        Raises:
            ValueError: the attack keeps no count per image (gradient attacks do not).
        """
        if self.diagnostics.queries_to_success is None:
            raise ValueError(f"{self.attack} counts no queries per image: only black-box attacks do")
        spent = np.asarray(self.diagnostics.queries_to_success)
        return float(1.0 - np.mean(self.success & (spent >= 0) & (spent <= queries)))


#: Every attack by its kind; filled by the classes themselves.
_REGISTERED: dict[str, type[Attack]] = {}


class Attack(BaseModel):
    """Base of every attack: fields are its settings, `kind` its name in configs and tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str] = ""
    norm: ClassVar[Norm] = "linf"
    knowledge: ClassVar[Knowledge] = "white-box"
    family: ClassVar[Family] = "none"
    iterative: ClassVar[bool] = True

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register a class that has a kind of its own."""
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" not in cls.__dict__:
            return
        other = _REGISTERED.get(cls.kind)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"attack kind {cls.kind!r} is taken by {other.__module__}.{other.__qualname__}")
        _REGISTERED[cls.kind] = cls

    @model_validator(mode="before")
    @classmethod
    def _drop_own_kind(cls, values: Any) -> Any:
        """A config says the kind; it is no setting."""
        if isinstance(values, dict) and values.get("kind") == cls.kind:
            return {key: value for key, value in values.items() if key != "kind"}
        return values

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: Any) -> dict[str, Any]:
        return {"kind": self.kind, **handler(self)}

    @property
    def label(self) -> str:
        """The name shown in tables, where no other attack of the same kind is beside it (see `distinct_labels`)."""
        return self.kind

    @property
    def digest(self) -> str:
        """What identifies the attack: SHA-256 of its kind and settings."""
        return digest_of(self.model_dump(mode="json"))

    @abstractmethod
    def run(self, problem: Problem, rng: np.random.Generator) -> tuple[Points, Diagnostics]:
        """Candidates (N, ...) for adversarial examples in grid steps, not necessarily whole or in the ball."""

    def __call__(
        self,
        victim: Victim,
        x: Codes,
        y: Truth,
        *,
        epsilon_lsb: Epsilon,
        seed: int,
        criterion: Criterion = MISCLASSIFICATION,
        state: Path | None = None,
        starts: Codes | None = None,
        begin: Codes | None = None,
        for_others: bool = False,
    ) -> AttackResult:
        """Attack `victim` on inputs `x` with true labels `y`.

        Args:
            victim: the model under attack (logits in).
            x: codes (N, ...) of clean inputs on the victim's grid.
            y: true labels (N,), or what the criterion compares with.
            epsilon_lsb: radius of the ball in grid steps; infinite for minimal-norm attacks; for L-infinity also
                one number per feature.
            seed: of this call; same seed, same examples.
            criterion: when the attack has succeeded.
            state: file in which a long attack keeps its progress, to go on there when it was stopped.
            starts: codes of inputs of the attacker's own that may fool the victim: attacks that see decisions only
                begin there, where no other input of `x` does.
            begin: codes (N, ...), one for each input: gradient attacks begin their first trial there, in the ball.
            for_others: the examples will be tried on other victims too: gradient attacks go on with inputs that have
                fallen, to the largest margin. Else these soon leave the batch.

        Returns:
            Examples on the grid and in the ball, judged by the victim itself.

        Raises:
            UserError: `x` holds no codes of the victim's grid.
        """
        started = perf_counter()
        problem = Problem(
            victim, Ball(victim.grid, _checked(x, victim.grid), self.norm, epsilon_lsb), y, criterion, state, starts,
            begin, for_others,
        )  # fmt: skip
        points, diagnostics = self.run(problem, np.random.default_rng(seed))
        candidates = problem.ball.project(points)
        logits = victim.logits(candidates)
        finite = np.isfinite(logits).all(axis=1)
        # A NaN output is a failure of the attack, not a success; it is flagged instead.
        success = criterion.fooled(logits, y)
        share = max(diagnostics.non_finite_share, problem.non_finite / max(problem.queries, 1), float(np.mean(~finite)))
        return AttackResult(
            self.label,
            candidates,
            success,
            epsilon_lsb,
            problem.queries,
            perf_counter() - started,
            seed,
            replace(
                diagnostics,
                non_finite_share=share,
                softmax_outputs=diagnostics.softmax_outputs or look_like_probabilities(logits),
            ),
            problem.ball.unbounded,
        )

    def curve(self, victim: Victim, x: Codes, y: Truth, *, epsilons: Sequence[float], seed: int) -> list[AttackResult]:
        """One result per epsilon (in grid steps): the accuracy-vs-epsilon curve."""
        return [self(victim, x, y, epsilon_lsb=epsilon, seed=seed) for epsilon in epsilons]


def _checked(x: Codes, grid: InputGrid) -> Codes:
    """Codes in the grid's own integer type."""
    if not np.issubdtype(x.dtype, np.integer):
        raise UserError(
            f"attack: inputs have type {x.dtype}; wanted: integer codes of {grid}, as load_data gives them "
            "(for other arrays: grid.to_codes(values))"
        )
    low, high = grid.format.raw_min, grid.format.raw_max
    if x.size and (x.min() < low or x.max() > high):
        raise UserError(f"attack: inputs range over {x.min()}..{x.max()}; codes of {grid.format} are {low}..{high}")
    return x.astype(grid.dtype, copy=False)


def attack_kinds() -> list[str]:
    """The kinds of all attacks there are."""
    return sorted(_REGISTERED)


def attack_class(kind: str) -> type[Attack] | None:
    """The class of that kind, if there is one."""
    return _REGISTERED.get(kind)


def _from_settings(value: Any) -> Any:
    """An attack from the mapping that describes it; a pydantic error names the kind that is unknown or missing."""
    if not isinstance(value, dict):
        return value
    if "kind" not in value:
        allowed = ", ".join(attack_kinds())
        raise PydanticCustomError("attack_without_kind", "{told}", {"told": f"kind is missing (allowed: {allowed})"})
    kind = value["kind"]
    found = attack_class(kind) if isinstance(kind, str) else None
    if found is None:
        told = f"unknown attack {kind!r}" + allowed_names(str(kind), attack_kinds())
        raise PydanticCustomError("unknown_attack", "{told}", {"told": told})
    return found.model_validate(value)


#: The pydantic type of one attack in a config, told apart by `kind`.
AnyAttack = Annotated[SerializeAsAny[Attack], BeforeValidator(_from_settings)]


def parse_attack(settings: dict[str, Any]) -> Attack:
    """The attack that `settings` describe, for example `{"kind": "pgd-linf", "steps": 40}`.

    Raises:
        UserError: an unknown kind or setting; the message names it.
    """
    try:
        attack: Attack = _from_settings(dict(settings))
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
        raise UserError(f"attack {settings!r} is not understood: {problems}") from error
    except PydanticCustomError as error:
        raise UserError(f"attack {settings!r} is not understood: {error.message()}") from error
    return attack


def distinct_labels(attacks: Iterable[Attack]) -> dict[str, str]:
    """A label for every attack, by its digest; attacks that would share one show the settings in which they differ."""
    unique = {attack.digest: attack for attack in attacks}
    labels = {}
    for digest, attack in unique.items():
        rivals = [other for other in unique.values() if other.label == attack.label]
        settings = {key: value for key, value in attack.model_dump(mode="json").items()}
        differing = [
            key for key, value in settings.items() if any(r.model_dump(mode="json").get(key) != value for r in rivals)
        ]
        shown = ",".join(f"{key}={settings[key]}" for key in differing)
        labels[digest] = f"{attack.label}({shown})" if shown else attack.label
    return labels
