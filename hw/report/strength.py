"""How ε is told: in grid steps (LSB), and where it was asked for in another unit, in that unit first."""

from __future__ import annotations

from collections.abc import Iterable
from math import isinf

from qmodels.metrics.masking import CLEAN, Row

_SIGNS = {"sigma": "σ"}
_WORDS = {"sigma": "σ, standard deviations of each feature", "value": "the data's own unit"}


def strength(epsilon_lsb: float, epsilon: float | None = None, unit: str = "lsb") -> str:
    """ε for people: `16`, or `0.25σ (32)`."""
    steps = "∞" if isinf(epsilon_lsb) else f"{epsilon_lsb:g}"
    if unit == "lsb" or epsilon is None or isinf(epsilon_lsb):
        return steps
    return f"{epsilon:g}{_SIGNS.get(unit, '')} ({steps})"


def strength_of(row: Row) -> str:
    """ε of a row."""
    return strength(row.epsilon_lsb, row.epsilon, row.epsilon_unit)


def with_unit(text: str) -> str:
    """A strength in a sentence: `16 LSB`, or `0.25σ (32 LSB)`."""
    return f"{text[:-1]} LSB)" if text.endswith(")") else f"{text} LSB"


def unit_note(rows: Iterable[Row], step: float | None) -> str:
    """What ε is counted in; `step` is None where inputs have different ones."""
    units = dict.fromkeys(row.epsilon_unit for row in rows if row.attack != CLEAN)
    told = " or ".join(_WORDS[unit] for unit in units if unit in _WORDS)
    lsb = f"1 LSB = {fraction(step)}" if step is not None else "1 LSB: a step of the input's own format"
    if not told:
        return f"ε in LSB ({lsb})"
    return f"ε in {told}; in brackets LSB, the median over features ({lsb})"


def fraction(step: float) -> str:
    """A power of two as people write it: 1/256, 4."""
    return f"{step:g}" if step >= 1 else f"1/{1 / step:g}"
