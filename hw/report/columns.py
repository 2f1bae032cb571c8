"""The columns of the headline table: every attack at every ε, and what the attacker knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hw.report.source import NORMS
from hw.report.strength import strength
from qmodels.metrics.masking import CLEAN, Row, is_bounded


@dataclass(frozen=True)
class AttackColumn:
    """One attack at one ε."""

    attack: str
    norm: str
    epsilon_lsb: float
    family: str
    apart: bool = False  # examples made on models of the attacker's own
    epsilon: float | None = None  # in `unit`
    unit: str = "lsb"
    attacker: str = "aware"  # of the defence; of examples that were made apart it does not matter

    @property
    def title(self) -> str:
        """The attack, with its norm where the name does not tell and it is not L-infinity."""
        tells = self.norm == "linf" or self.norm in self.attack
        name = self.attack if tells else f"{self.attack} {NORMS.get(self.norm, self.norm)}"
        if self.apart:
            return f"{name} (black-box)"
        return name if self.attacker == "aware" else f"{name} ({self.attacker})"

    @property
    def strength(self) -> str:
        """ε in LSBs, and in the unit it was asked for."""
        return strength(self.epsilon_lsb, self.epsilon, self.unit)

    def holds(self, row: Row) -> bool:
        """Whether the row belongs into this column."""
        mine = (row.attack, row.norm) == (self.attack, self.norm)
        mine = mine and (row.epsilon_lsb, row.epsilon, row.epsilon_unit) == (self.epsilon_lsb, self.epsilon, self.unit)
        same = made_apart(row) == self.apart and (self.apart or row.attacker == self.attacker)
        return mine and same and has_column(row)


def made_apart(row: Row) -> bool:
    """Whether the examples were made on a model of the attacker's own, not on the victim and not on the run's."""
    return row.knowledge == "black-box" and bool(row.source)


def attack_columns(rows: Iterable[Row]) -> tuple[AttackColumn, ...]:
    """Every bounded attack at every ε, white-box, black-box, then noise; else in the results' order, ε rising.

    Of the unbounded attacks only those that were made apart: on the victim itself they are checks, not measures.
    """
    found = dict.fromkeys(
        AttackColumn(
            row.attack, row.norm, row.epsilon_lsb, row.family, made_apart(row), row.epsilon, row.epsilon_unit,
            "aware" if made_apart(row) else row.attacker,
        )
        for row in rows
        if row.attack != CLEAN and has_column(row) and (is_bounded(row) or _roams(row))
    )  # fmt: skip
    order = list(dict.fromkeys(column.title for column in found))
    return tuple(sorted(found, key=lambda c: (c.family == "noise", c.apart, order.index(c.title), c.epsilon_lsb)))


def has_column(row: Row) -> bool:
    """Transfers have one column together; but what an unaware attacker made is told attack by attack."""
    return row.knowledge != "transfer" or row.attacker == "unaware"


def _roams(row: Row) -> bool:
    """Whether a minimal-norm attack without a bound was made apart: how far its short changes carry over."""
    return made_apart(row) and row.family == "minimal-norm"
