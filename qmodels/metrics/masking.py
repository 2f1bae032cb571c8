"""When a robustness number may be believed: flags for every row of an evaluation.

`with_flags(rows)` compares the rows of one evaluation with each other and hands them back with the flags that
spoil them. The checks follow Athalye et al. 2018 (arXiv:1802.00420) and Carlini et al. 2019 (arXiv:1902.06705).

What counts as a difference: a row is *lower* than another when its accuracy is at least `MATERIAL` (2 points)
lower *and* chance explains that with a probability below `SIGNIFICANCE` (0.001, since an evaluation makes dozens
of comparisons): by an exact paired sign test where both rows carry answers, else by a
two-proportion test. Rows of one evaluation begin with the same images; where one has more of them than the other,
those that both have are compared. A few samples of noise therefore raise no flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ball import Norm
from qmodels.attacks.base import Attack, AttackResult, Family, Knowledge
from qmodels.data import Unit
from qmodels.statistics import paired_p_value, unpaired_p_value, wilson

Flag = Literal[
    "attacked-above-clean",
    "single-step-stronger",
    "accuracy-rises-with-epsilon",
    "not-converged",
    "unbounded-below-100",
    "black-box-stronger",
    "zero-gradients",
    "non-finite",
    "softmax-outputs",
    "accelerator-disagrees",
]

Attacker = Literal["aware", "unaware"]

EXPLANATIONS: dict[Flag, str] = {
    "attacked-above-clean": "the model is more accurate under this attack than without it: the attack does not work",
    "single-step-stronger": "a single gradient step does more harm than this iterative attack: this attack fails",
    "accuracy-rises-with-epsilon": "accuracy is higher in a larger ball, where it cannot be: the attack fails",
    "not-converged": "with twice the iterations accuracy still falls: the true number is lower",
    "unbounded-below-100": "even with no bound on the change this attack cannot fool the model: the attack is broken",
    "black-box-stronger": "an attack that sees less does more harm: gradients are masked, the number is too high",
    "zero-gradients": "for many samples the gradient is exactly zero: a gradient attack has nothing to follow",
    "non-finite": "NaN or infinite outputs or gradients: these samples count as not broken",
    "softmax-outputs": "the loss saw probabilities, not logits: if the model is sure, its gradient is rounded to zero",
    "accelerator-disagrees": "the accelerator's outputs differ from those of the model on which the examples were made",
}

CLEAN = "clean"  # the `attack` of a row that states clean accuracy
SIGNIFICANCE = 0.001
MATERIAL = 0.02
#: Share of samples with an exactly zero gradient above which a gradient attack is not believed. Our choice:
#: a µ-law-mapped model was measured at 0.9, the same model unmapped at 0.002.
ZERO_GRADIENTS = 0.05
#: Accuracy below which an unbounded attack passes as reaching 100 %: a stray stubborn sample is not masking.
UNBOUNDED_REST = 0.01


@dataclass(frozen=True)
class Row:
    """One number of an evaluation with its evidence; `as_json` is its form in results.json."""

    model: str
    victim: str  # scored on
    attack: str
    accuracy: float
    n: int
    bits: float | None = None  # of a weight; a mean where layers differ
    knowledge: Knowledge = "none"
    epsilon_lsb: float = 0.0  # grid steps; the median where features have different ones
    ci95: tuple[float, float] = (0.0, 1.0)
    queries: int = 0
    seconds: float = 0.0
    seed: int = 0
    source: str = ""  # victim on which the examples were made; empty: the one they are scored on
    norm: Norm = "linf"
    family: Family = "none"
    iterative: bool = False
    zero_gradient_share: float = 0.0
    non_finite_share: float = 0.0
    softmax_outputs: bool = False
    doubled_accuracy: float | None = None  # of the same attack with twice the iterations, on the same images
    disagreements: int = 0  # examples for which the victim and the source give different answers
    attack_digest: str = ""  # identifies the attack by its settings
    unbounded: bool = False  # the ball was the whole input grid
    flags: tuple[Flag, ...] = ()
    epsilon: float | None = None  # as it was asked for, in `epsilon_unit`; None: in steps
    epsilon_unit: Unit = "lsb"
    task: str = "classes"
    metric: str = "accuracy"  # what `accuracy` is the share of: inputs that the victim gets right, or that withstand
    errors: dict[str, float] | None = None  # measured beside: of a regression, scores of an auto-encoder
    attacker: Attacker = "aware"  # whether he knows the victim's defence; aware also where there is none
    refused: float | None = None  # share of inputs that a detector refuses
    correct: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)  # per image, for paired tests
    doubled_correct: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)

    @property
    def radius(self) -> float:
        """ε in `epsilon_unit`."""
        return self.epsilon_lsb if self.epsilon is None else self.epsilon

    @property
    def ball(self) -> tuple[Norm, float, Unit]:
        """What the attack was allowed to change."""
        return self.norm, self.radius, self.epsilon_unit

    def as_json(self) -> dict[str, Any]:
        """Plain values; an infinite epsilon, which JSON lacks, is null."""
        plain = {key: value for key, value in asdict(self).items() if key not in ("correct", "doubled_correct")}
        return plain | {
            "epsilon_lsb": self.epsilon_lsb if np.isfinite(self.epsilon_lsb) else None,
            "epsilon": self.radius if np.isfinite(self.radius) else None,
            "ci95": list(self.ci95),
            "flags": list(self.flags),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Row:
        """The row that `as_json` wrote; unknown keys are ignored, per-image answers are gone."""
        known = {key: value for key, value in plain.items() if key in cls.__dataclass_fields__}
        epsilon = known.get("epsilon_lsb", 0.0)
        if known.get("epsilon_unit", "lsb") == "lsb":  # said once
            known["epsilon"] = None
        if "unbounded" not in known:  # written when every input was an 8-bit pixel
            known["unbounded"] = known.get("norm", "linf") == "linf" and epsilon is not None and epsilon >= 255
        return cls(
            **known
            | {
                "epsilon_lsb": float("inf") if epsilon is None else epsilon,
                "ci95": tuple(known.get("ci95", (0.0, 1.0))),
                "flags": tuple(known.get("flags", ())),
            }
        )


def clean_row(model: str, victim: str, correct: NDArray[np.bool_], *, bits: float | None = None) -> Row:
    """The row of clean accuracy, which flag 1 compares with."""
    right = int(correct.sum())
    return Row(
        model,
        victim,
        CLEAN,
        right / max(len(correct), 1),
        len(correct),
        bits,
        ci95=wilson(right, len(correct)),
        correct=correct,
    )


def attack_row(
    model: str,
    victim: str,
    attack: Attack,
    result: AttackResult,
    *,
    label: str | None = None,
    bits: float | None = None,
    doubled: AttackResult | None = None,
) -> Row:
    """The row of an attack scored on the victim it attacked.

    Args:
        model: name of the model in the table, for example `F.L.+mu`.
        victim: name of the victim.
        attack: what was run.
        result: what it found.
        label: name of the attack in the table; None: the attack's own.
        bits: weight width, for the table.
        doubled: result of `attack.doubled()`, where it was run: decides `not-converged`.
    """
    correct, noted = ~result.success, result.diagnostics
    right = int(correct.sum())
    return Row(
        model,
        victim,
        label or result.attack,
        right / max(len(correct), 1),
        len(correct),
        bits,
        knowledge=attack.knowledge,
        epsilon_lsb=float(np.max(result.epsilon_lsb)),
        ci95=wilson(right, len(correct)),
        queries=result.queries,
        seconds=result.seconds,
        seed=result.seed,
        norm=attack.norm,
        family=attack.family,
        iterative=attack.iterative,
        zero_gradient_share=noted.zero_gradient_share,
        non_finite_share=noted.non_finite_share,
        softmax_outputs=noted.softmax_outputs,
        doubled_accuracy=None if doubled is None else doubled.accuracy,
        attack_digest=attack.digest,
        unbounded=result.unbounded,
        correct=correct,
        doubled_correct=None if doubled is None else ~doubled.success,
    )


def scored_elsewhere(
    row: Row, victim: str, correct: NDArray[np.bool_], *, knowledge: Knowledge, disagreements: int = 0
) -> Row:
    """The same examples scored on another victim.

    Args:
        row: the row of the victim the examples were made on.
        victim: where they are scored now.
        correct: that victim's answers.
        knowledge: `white-box` when the victim is the accelerator of the very model, else `transfer`.
        disagreements: examples for which the two give different answers; must be 0 for an exact accelerator.
    """
    right = int(correct.sum())
    same_function = knowledge == "white-box"  # then twice the iterations find the same there
    return replace(
        row, victim=victim, source=row.source or row.victim, accuracy=right / max(len(correct), 1), n=len(correct),
        ci95=wilson(right, len(correct)), knowledge=knowledge, disagreements=disagreements, correct=correct, flags=(),
        doubled_accuracy=row.doubled_accuracy if same_function else None,
        doubled_correct=row.doubled_correct if same_function else None,
    )  # fmt: skip


def with_flags(rows: Sequence[Row]) -> list[Row]:
    """All rows of one evaluation with their flags filled in, in the order of `EXPLANATIONS`."""
    spoiled = {flag: set(check(rows)) for flag, check in CHECKS.items()}
    return [
        replace(row, flags=tuple(flag for flag in EXPLANATIONS if index in spoiled[flag]))
        for index, row in enumerate(rows)
    ]


def is_lower(low: Row, high: Row) -> bool:
    """Whether the accuracy of `low` is lower than that of `high` by more than chance (see the module)."""
    if low.correct is not None and high.correct is not None:
        both = min(len(low.correct), len(high.correct))  # rows of one evaluation begin with the same images
        fewer, more = low.correct[:both], high.correct[:both]
        return float(more.mean() - fewer.mean()) >= MATERIAL and paired_p_value(fewer, more) < SIGNIFICANCE
    if high.accuracy - low.accuracy < MATERIAL:
        return False
    return unpaired_p_value(low.accuracy, high.accuracy, low.n, high.n) < SIGNIFICANCE


def attacked_above_clean(rows: Sequence[Row]) -> Iterator[int]:
    """Rows that are higher than the clean row of the same model and victim."""
    for index, row in _attacks(rows):
        if any(is_lower(clean, row) for clean in rows if clean.attack == CLEAN and _same_victim(clean, row)):
            yield index


def single_step_stronger(rows: Sequence[Row]) -> Iterator[int]:
    """Iterative gradient rows that are higher than a single-step row of the same norm and epsilon."""
    for index, row in _gradient(rows):
        steps = (other for _, other in _gradient(rows) if not other.iterative and _same_ball(other, row))
        if row.iterative and any(is_lower(step, row) for step in steps):
            yield index


def accuracy_rises_with_epsilon(rows: Sequence[Row]) -> Iterator[int]:
    """Rows that are higher than a row of the same attack with a smaller epsilon."""

    def line(item: tuple[int, Row]) -> tuple[str, ...]:
        row = item[1]
        return row.model, row.victim, row.source, row.attack, row.knowledge

    for _, group in groupby(sorted(_attacks(rows), key=line), key=line):
        members = list(group)
        for index, row in members:
            if any(_smaller(other, row) and is_lower(other, row) for _, other in members):
                yield index


def not_converged(rows: Sequence[Row]) -> Iterator[int]:
    """Rows that fall when the iterations are doubled."""
    for index, row in _attacks(rows):
        if row.doubled_accuracy is not None and is_lower(
            replace(row, accuracy=row.doubled_accuracy, correct=row.doubled_correct), row
        ):
            yield index


def unbounded_below_100(rows: Sequence[Row]) -> Iterator[int]:
    """All rows of an iterative attack which, allowed any change, still leaves more than 1 % of the samples right.

    Only gradient and minimal-norm attacks are held to this: noise and single steps have no way to get there.
    """
    broken = {
        (row.model, row.victim, row.attack)
        for _, row in _attacks(rows)
        if row.iterative and row.family in ("gradient", "minimal-norm") and not is_bounded(row)
        and row.knowledge == "white-box"  # examples made on another model may fail on this one
        and wilson(round(row.accuracy * row.n), row.n)[0] > UNBOUNDED_REST
    }  # fmt: skip
    known = ((i, row) for i, row in _attacks(rows) if row.knowledge == "white-box")
    yield from (i for i, row in known if (row.model, row.victim, row.attack) in broken)


def black_box_stronger(rows: Sequence[Row]) -> Iterator[int]:
    """White-box rows beaten by an attack that sees less, in the same ball on the same victim.

    Either the same attack made on another model does more harm than the row itself, or some black-box or transfer
    row does more harm than *every* white-box row (FGSM alone being weaker than Square is no news).
    """
    white = [(i, row) for i, row in _attacks(rows) if row.knowledge == "white-box"]
    black = [row for _, row in _attacks(rows) if row.knowledge in ("black-box", "transfer")]
    for index, row in white:
        rivals = [other for other in black if _same_ball(other, row) and is_lower(other, row)]
        strongest = min((w for _, w in white if _same_ball(w, row)), key=lambda w: w.accuracy)
        if any(rival.attack == row.attack or is_lower(rival, strongest) for rival in rivals):
            yield index


def zero_gradients(rows: Sequence[Row]) -> Iterator[int]:
    """Rows whose gradients are exactly zero for more than 5 % of the samples."""
    return (i for i, row in _attacks(rows) if row.zero_gradient_share > ZERO_GRADIENTS)


def non_finite(rows: Sequence[Row]) -> Iterator[int]:
    """Rows with any output or gradient that is NaN or infinite."""
    return (i for i, row in enumerate(rows) if row.non_finite_share > 0)


def softmax_outputs(rows: Sequence[Row]) -> Iterator[int]:
    """Rows whose loss or victim worked on probabilities."""
    return (i for i, row in _attacks(rows) if row.softmax_outputs)


def accelerator_disagrees(rows: Sequence[Row]) -> Iterator[int]:
    """White-box rows on an accelerator that answers even one example otherwise than the model it was made on."""
    return (i for i, row in _attacks(rows) if row.disagreements > 0 and row.knowledge == "white-box")


def is_bounded(row: Row) -> bool:
    """Whether the attack is held to a ball smaller than the input cube, which an L-infinity ball of 255 LSBs holds."""
    return not (row.unbounded or np.isinf(row.epsilon_lsb))


CHECKS: dict[Flag, Callable[[Sequence[Row]], Iterable[int]]] = {
    "attacked-above-clean": attacked_above_clean,
    "single-step-stronger": single_step_stronger,
    "accuracy-rises-with-epsilon": accuracy_rises_with_epsilon,
    "not-converged": not_converged,
    "unbounded-below-100": unbounded_below_100,
    "black-box-stronger": black_box_stronger,
    "zero-gradients": zero_gradients,
    "non-finite": non_finite,
    "softmax-outputs": softmax_outputs,
    "accelerator-disagrees": accelerator_disagrees,
}


@dataclass(frozen=True)
class Verdict:
    """What an evaluation says about one model on one victim at one epsilon."""

    model: str
    victim: str
    epsilon_lsb: float
    epsilon: float  # in `epsilon_unit`
    epsilon_unit: Unit
    clean: float | None
    columns: dict[str, float]  # attack (with its knowledge, unless white-box) -> accuracy
    worst: float  # per image over this ball and smaller ones where the rows carry answers, else the lowest row
    worst_attack: str  # the row with the lowest accuracy
    flags: dict[Flag, str]  # flag -> the attacks it spoils
    n: int  # images of the worst case: those that every row has

    @property
    def believable(self) -> bool:
        """No flag was raised."""
        return not self.flags


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One verdict per model, victim and epsilon, from rows that went through `with_flags`."""
    keys = dict.fromkeys((row.model, row.victim, row.radius, row.epsilon_unit) for _, row in _attacks(rows))
    return [_verdict(rows, *key) for key in keys]


def _verdict(rows: Sequence[Row], model: str, victim: str, epsilon: float, unit: Unit) -> Verdict:
    own = [r for _, r in _attacks(rows) if (r.model, r.victim, r.epsilon_unit) == (model, victim, unit)]
    within = [row for row in own if row.radius <= epsilon]
    mine = [row for row in within if row.radius == epsilon]
    clean = next((r for r in rows if r.attack == CLEAN and (r.model, r.victim) == (model, victim)), None)
    lowest = min(mine, key=lambda row: row.accuracy)
    spoiled = {flag: ", ".join(_column(r) for r in mine if flag in r.flags) for flag in EXPLANATIONS}
    return Verdict(
        model, victim, mine[0].epsilon_lsb, epsilon, unit, clean.accuracy if clean else None,
        {_column(r): r.accuracy for r in mine},
        _worst(within, lowest), _column(lowest), {flag: names for flag, names in spoiled.items() if names},
        min(row.n for row in within),
    )  # fmt: skip


def _worst(rows: Sequence[Row], lowest: Row) -> float:
    """Share of images that survive every row and its twin of twice the iterations, of those that all rows have."""
    answers = [row.correct for row in rows if row.correct is not None]
    if len(answers) < len(rows):
        return lowest.accuracy
    answers += [row.doubled_correct for row in rows if row.doubled_correct is not None]
    both = min(map(len, answers))
    return float(np.logical_and.reduce([answer[:both] for answer in answers]).mean())


def _column(row: Row) -> str:
    return row.attack if row.knowledge in ("white-box", "none") else f"{row.attack} ({row.knowledge})"


def _attacks(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    return ((i, row) for i, row in enumerate(rows) if row.attack != CLEAN)


def _gradient(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    return ((i, r) for i, r in _attacks(rows) if r.family == "gradient" and r.knowledge == "white-box")


def _same_victim(a: Row, b: Row) -> bool:
    return (a.model, a.victim) == (b.model, b.victim)


def _same_ball(a: Row, b: Row) -> bool:
    return _same_victim(a, b) and a.ball == b.ball


def _smaller(a: Row, b: Row) -> bool:
    return a.epsilon_unit == b.epsilon_unit and a.radius < b.radius
