"""ε is told in grid steps, and in the unit it was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from hw.experiment.ball import headline_ball
from hw.report.console import console_text
from hw.report.source import parse_results
from hw.report.strength import fraction, strength, unit_note, with_unit
from qmodels.metrics.masking import Row, verdicts, with_flags


def row(attack: str, accuracy: float, lsb: float = 0.0, **more: Any) -> Row:
    attacked = {"knowledge": "white-box", "family": "gradient", "iterative": True, "attack_digest": attack}
    return Row("Adv.", "bitsim", attack, accuracy, 400, epsilon_lsb=lsb, **(attacked if lsb else {}) | more)


SIGMA = [
    row("clean", 0.95),
    row("pgd-linf", 0.8, 8, epsilon=0.25, epsilon_unit="sigma"),
    row("pgd-linf", 0.5, 8, epsilon=0.5, epsilon_unit="sigma"),  # the median of other features
    row("pgd-linf", 0.9, 16, epsilon=0.3, epsilon_unit="value"),
]


@pytest.mark.parametrize(
    ("given", "told", "sentence"),
    [
        ((16,), "16", "16 LSB"),
        ((8, 0.25, "sigma"), "0.25σ (8)", "0.25σ (8 LSB)"),
        ((64, 0.5, "value"), "0.5 (64)", "0.5 (64 LSB)"),
        ((float("inf"), float("inf"), "value"), "∞", "∞ LSB"),
    ],
)
def test_a_strength_is_told_both_ways(given: tuple[Any, ...], told: str, sentence: str) -> None:
    assert strength(*given) == told
    assert with_unit(told) == sentence


def test_what_epsilon_is_counted_in() -> None:
    assert unit_note([row("clean", 1), row("fgsm", 0.5, 8)], 1 / 256) == "ε in LSB (1 LSB = 1/256)"
    assert unit_note(SIGMA[:3], 1 / 32).startswith("ε in σ, standard deviations of each feature; in brackets LSB")
    assert (fraction(1 / 32), fraction(4.0)) == ("1/32", "4")


def test_rows_of_other_units_are_other_balls() -> None:
    assert len({item.ball for item in SIGMA}) == 4
    assert not any(item.flags for item in with_flags(SIGMA)), "0.9 at 16 steps rises above 0.8 at 8, in another unit"
    rising = [*SIGMA, row("pgd-linf", 0.9, 20, epsilon=1.0, epsilon_unit="sigma")]
    assert [item.flags for item in with_flags(rising)][-1] == ("accuracy-rises-with-epsilon",)
    assert [(v.epsilon, v.epsilon_unit, v.worst) for v in verdicts(SIGMA)] == [
        (0.25, "sigma", 0.8),
        (0.5, "sigma", 0.5),
        (0.3, "value", 0.9),
    ]
    assert headline_ball(SIGMA[:3]) == ("linf", 0.5, "sigma")


def test_rows_survive_results_json_and_old_ones_are_in_steps() -> None:
    for item in [*SIGMA, row("fgsm", 0.5, 8)]:
        assert Row.from_json(item.as_json()) == item
    plain = row("fgsm", 0.5, 8).as_json()
    assert (plain["epsilon"], plain["epsilon_unit"]) == (8, "lsb")
    old = {key: value for key, value in plain.items() if not key.startswith("epsilon") or key == "epsilon_lsb"}
    assert Row.from_json(old) == row("fgsm", 0.5, 8)


def test_the_console_tells_both() -> None:
    plain = {"schema": 1, "run": "t", "rows": [item.as_json() for item in SIGMA[:3]], "input": {"step": 1 / 32}}
    text = console_text([parse_results(plain)], 200)
    assert "0.25σ (8)" in text and "0.5σ (8)" in text and "(1 LSB = 1/32)" in text and "ε = 0.5σ (8 LSB)" in text
