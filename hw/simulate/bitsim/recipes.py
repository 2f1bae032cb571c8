"""What csim does to a number (casts, comparisons, tables), in order: without intervals or machine words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmodels.formats import FixedPoint


@dataclass(frozen=True)
class Cast:
    """An assignment between fixed-point types, as `ap_fixed_base::operator=`. `layer` is who overflows."""

    source: FixedPoint
    target: FixedPoint
    layer: str = ""
    place: str = "result"


@dataclass(frozen=True)
class Clamp:
    """Keep within raw bounds (a ReLU, a table's index): not an overflow."""

    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Affine:
    """v * scale + offset, raw."""

    scale: int = 1
    offset: int = 0


@dataclass(frozen=True)
class ShiftLeft:
    """v * 2**bits."""

    bits: int


@dataclass(frozen=True, eq=False)
class Param:
    """v * p or v + p, where p differs by channel or by element.

    `data` (rows, 2) has a row for every pair of channels, as the kernels keep them. Rows repeat every `len(data)`
    pairs: those of one pixel for parameters of channels, those of the whole value for parameters of elements.
    """

    multiply: bool
    data: NDArray[np.int64]


@dataclass(frozen=True)
class DivideTowardsZero:
    """C's integer division."""

    divisor: int


@dataclass(frozen=True, eq=False)
class LookupTable:
    """table[v - base]. Whoever writes the recipe clamps v first."""

    table: NDArray[np.int64]
    base: int = 0


@dataclass(frozen=True)
class Choose:
    """`yes` where v > threshold (>= when `or_equal`), else `no`; both start from v. Choices do not nest."""

    threshold: int
    yes: tuple[Action, ...]
    no: tuple[Action, ...]
    or_equal: bool = False


Action = Cast | Clamp | Affine | ShiftLeft | Param | DivideTowardsZero | LookupTable | Choose


@dataclass(frozen=True)
class Recipe:
    """Actions, in order."""

    actions: tuple[Action, ...] = ()

    def __add__(self, other: Recipe) -> Recipe:
        return Recipe(self.actions + other.actions)

    @property
    def uniform(self) -> bool:
        """True when every element is treated alike."""
        return not any(map(_has_parameters, self.actions))


def _has_parameters(action: Action) -> bool:
    if isinstance(action, Choose):
        return any(map(_has_parameters, (*action.yes, *action.no)))
    return isinstance(action, Param)


def recipe(*actions: Action) -> Recipe:
    """A recipe from its actions."""
    return Recipe(actions)
