"""Cuts: inequalities that all whole points fulfil, and a point of a linear program does not.

Rows are added up, weighted. With y >= 0 and slacks s >= 0, all whole, sum a y + sum w s = b becomes

    sum F(a) y + sum F(w) s <= floor(b / d),   F(a) = floor(a / d) + max(0, r(a) - r(b)) / (d - r(b))

for every d > 0, with r the rest of a division by d: mixed-integer rounding (Nemhauser and Wolsey 1990). Multiplied by
d - r(b) it is in whole numbers, and so is what is done here. Where the weights come from does not matter: they are
those of a simplex tableau's rows, in floats, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.certify.relaxation import Floats, Relaxation, Solution
from hw.certify.rows import FREE, Whole

_UNIT_BITS = 30  # a weight is a whole number of 2**-30; this is d
_LARGEST, _EXACT, _ROOM = 2.0**44, 2.0**52, 2.0**59  # weights; sums that float64 holds; sums that int64 holds
_FACTORS = 1, 2, 3, 4  # tableau rows are multiplied by these before they are rounded
_FRACTION = 5e-3  # a number that is nearer to a whole one is taken for it
_INPUTS = 0.3  # how much a fraction of an input counts, next to one of a step
_REST = 6  # a right side whose rest is within d / 2**6 of 0 or d makes weak cuts
_BITS = 18  # of a cut's numbers
_LEAST = 1e-4  # how far off the point must be
_ALIKE = 0.9  # cosine between two cuts from which on they are alike


@dataclass(frozen=True, eq=False)
class _Shifted:
    """Columns counted from the nearer end of their bounds: y = low + y', or high - y'. Likewise rows.

    Args:
        low: of columns.
        high: likewise.
        down: which are counted from `high`.
        sign: (rows,) 1, or -1 for rows that are counted from their lower end.
        most: (rows,) what rows are at most, multiplied by their sign.
    """

    low: Whole
    high: Whole
    down: NDArray[np.bool_]
    sign: Whole
    most: Whole

    @classmethod
    def at(cls, found: Relaxation, point: Floats, low: Whole, high: Whole) -> _Shifted:
        """By a point; between these bounds of columns."""
        sums = found.floats @ point
        lower = (found.most >= FREE) | ((found.least > -FREE) & (sums - found.least < found.most - sums))
        sign = np.where(lower, -1, 1)
        down = point - low > high - point
        return cls(low, high, down, sign, np.where(lower, -found.least, found.most))

    def signs(self, numbers: Whole) -> Whole:
        """Coefficients of y from those of y', or the other way round."""
        return np.where(self.down, -numbers, numbers)

    def ends(self) -> Whole:
        """Where y' is 0."""
        return np.where(self.down, self.high, self.low)


def rounding_cuts(
    found: Relaxation, solution: Solution, low: Whole, high: Whole, rows: int, most: int
) -> tuple[Whole, Whole] | None:
    """matrix, right of cuts through a solution, which hold between these bounds; None: there are none.

    Args:
        found: the program.
        solution: of it, not empty, between these bounds.
        low: of columns.
        high: likewise.
        rows: of the tableau, at most.
        most: cuts.
    """
    reach = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    weights = _tableau(found, solution, rows, reach)
    if weights is None:
        return None
    point = solution.point
    shift = _Shifted.at(found, point, low, high)
    rows_of = found.floats * shift.sign[:, None]
    slack, away = shift.most - rows_of @ point, np.abs(point - shift.ends())
    sums = (weights.astype(np.float64) @ found.floats).astype(np.int64)
    weights = weights * shift.sign
    ends = weights @ shift.most - sums @ shift.ends()
    many: list[tuple[float, Whole, Whole, int, Floats]] = []
    for factor in (sign * factor for sign in (1, -1) for factor in _FACTORS):
        mine, slacks, sides = _rounded(factor * shift.signs(sums), factor * weights, factor * ends)
        direction = shift.signs(mine).astype(np.float64) - slacks.astype(np.float64) @ rows_of
        length = np.sqrt((direction**2).sum(axis=1)) + 1e-9
        off = (mine @ away + slacks @ slack - sides) / length
        many += [
            (float(off[i]), mine[i], slacks[i], int(sides[i]), direction[i] / length[i])
            for i in np.flatnonzero(off > _LEAST)
        ]
    many.sort(key=lambda one: -one[0])
    matrix: list[Whole] = []
    rights: list[int] = []
    directions = np.zeros((0, len(low)))
    for _, mine, slacks, right, direction in many:
        if len(matrix) == most:
            break
        if (directions @ direction > _ALIKE).any():
            continue
        cut = _in_columns(found, shift, reach, mine, slacks, right)
        if cut is not None and float(cut[0] @ point) > cut[1]:
            matrix.append(cut[0])
            rights.append(cut[1])
            directions = np.vstack([directions, direction])
    return (np.array(matrix), np.array(rights, np.int64)) if matrix else None


def _tableau(found: Relaxation, solution: Solution, most: int, reach: Floats) -> Whole | None:
    """Weights (some, rows) that leave one basic column with a fraction among those that the basis holds."""
    columns = found.basic(solution)
    at = np.maximum(columns, 0)
    fraction = np.abs(solution.point[at] - np.rint(solution.point[at]))
    worth = np.where((columns >= 0) & (fraction > _FRACTION), fraction, 0) * np.where(found.rows.steps[at], 1, _INPUTS)
    order = np.argsort(-worth, kind="stable")[:most]
    chosen = order[worth[order] > 0]
    if not len(chosen):
        return None
    rows = found.inverse(columns, chosen) * found.scale
    pivot = (rows @ found.floats)[np.arange(len(chosen)), columns[chosen]]
    rows = rows / np.where(np.abs(pivot) < 1e-9, 1, pivot)[:, None] * (1 << _UNIT_BITS)
    rows = rows[np.abs(rows).max(axis=1) < _LARGEST]
    whole = np.rint(rows).astype(np.int64)
    size = np.abs(whole).astype(np.float64)
    sums = size @ found.sizes
    fits = (sums.max(axis=1) < _EXACT / max(_FACTORS)) & (sums @ reach + size @ found.ends < _ROOM)
    return whole[fits] if fits.any() else None


def _rounded(sums: Whole, slacks: Whole, right: Whole) -> tuple[Whole, Whole, Whole]:
    """Both sides rounded, times d - r(b); of the rows for which that may be of use."""
    unit = np.int64(1 << _UNIT_BITS)
    rest = right & (unit - 1)
    kept = np.flatnonzero((rest > unit >> _REST) & (rest < unit - (unit >> _REST)))
    rest, factor = rest[kept, None], unit - rest[kept, None]

    def function(numbers: Whole) -> Whole:
        return factor * (numbers >> _UNIT_BITS) + np.maximum((numbers & (unit - 1)) - rest, 0)

    return function(sums[kept]), function(slacks[kept]), factor[:, 0] * (right[kept] >> _UNIT_BITS)


def _in_columns(
    found: Relaxation, shift: _Shifted, reach: Floats, mine: Whole, slacks: Whole, right: int
) -> tuple[Whole, int] | None:
    """A cut without slacks, of y itself, with small numbers; None where int64 may not hold it."""
    size = np.abs(slacks).astype(np.float64)
    if max((size @ found.sizes).max(), size @ found.ends, np.abs(mine) @ reach) >= _ROOM:
        return None
    cut = shift.signs(mine) - (slacks * shift.sign) @ found.matrix
    right += int((shift.signs(mine) * shift.ends()).sum()) - int(slacks @ shift.most)
    bits = int(np.abs(cut).max()).bit_length() - _BITS
    if bits <= 0:
        return (cut, right) if cut.any() else None
    small = (cut + (1 << (bits - 1))) >> bits
    rest = cut - (small << bits)  # what is rounded off counts at its smallest
    return small, (right - int(np.minimum(rest * shift.low, rest * shift.high).sum())) >> bits
