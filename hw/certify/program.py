"""A mixed-integer program whose solutions are inputs that may be decided wrongly: HiGHS looks, the device judges.

Nothing is concluded from what HiGHS says, not even from "infeasible". The program has one whole number for each
quantizer's step. Inputs are left continuous, which makes it much faster, and are made whole afterwards (`whole.py`).
So sums keep away from the ends of steps by a little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.stages import Affine
from hw.certify.whole import whole_inputs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ROUNDED = 4096  # inputs that are made of one solution
_INFEASIBLE = 2  # scipy's status
_ANY = 1e9  # the first solution is good enough
_INNER = 1.0  # sums of steps, which are whole, keep away from ties


def suspects(
    net: Net, regions: Regions, goal: Objective, need: int, seconds: float, rng: np.random.Generator
) -> tuple[Points | None, bool]:
    """Leaves (some, n) that may be decided wrongly, if HiGHS finds them; and whether the time was enough to tell.

    Args:
        net: stages.
        regions: one row.
        goal: one row, below `need` where a decision is wrong.
        need: a whole number.
        seconds: of HiGHS, at most.
        rng: rounds.
    """
    from scipy.optimize import milp  # takes half a second to load

    if not net.stages or not all(isinstance(s, Affine) and s.stairs is not None for s in net.stages):
        return None, False
    made = _Program()
    for index in net.leaves:
        box = regions.leaves[index]
        made.value(index, made.add(box.low[0], box.high[0], whole=False), np.zeros(box.low.shape[1]), 1.0)
    for stage in net.stages:
        assert isinstance(stage, Affine)
        _steps(made, net, regions, stage)
    made.objective(goal, need)
    found = milp(
        made.cost,
        constraints=made.constraints(),
        bounds=made.bounds(),
        integrality=np.concatenate(made.whole),
        options={"time_limit": seconds, "mip_rel_gap": _ANY},
    )
    if found.x is None:
        return None, found.status == _INFEASIBLE
    near: Points = {}
    for index in net.leaves:
        at, base, _ = made.values[index]
        near[index] = found.x[None, at : at + len(base)]
    return whole_inputs(net, regions, near, _ROUNDED, rng), True


def _steps(made: _Program, net: Net, regions: Regions, stage: Affine) -> None:
    """One stage's quantizers: which step each is on, and whether that is a longer one at an end."""
    stairs, reach = stage.stairs, regions.reach[stage.out]
    assert stairs is not None
    first, last = stairs.index(reach.low[0]), stairs.index(reach.high[0])
    most, count = (last - first).astype(float), len(stage.bias)
    jump, width = float(np.median(np.diff(stairs.values))) if len(stairs.values) > 1 else 1.0, stairs.usual
    if len(stairs.starts) > 2:
        width = float(stairs.starts[-1] - stairs.starts[1]) / (len(stairs.starts) - 2)
    step = made.add(np.zeros(count), most)
    above, top = (made.add(np.zeros(count), np.ones(count)) for _ in range(2))
    sums, constant, away = [], stage.bias.astype(float), _INNER
    for index, matrix in net.matrices[stage.out]:
        at, base, scale = made.values[index]
        plain = matrix.sparse.astype(np.float64)
        constant = constant + plain @ base
        sums.append((at, plain * scale))
        if index in net.leaves and matrix.sparse.nnz:
            away = min(float(np.sqrt(np.mean(plain.data**2))), width / 4)
    start = stairs.starts[np.minimum(first + 1, len(stairs.starts) - 1)].astype(float)  # of the step after the lowest
    flat = np.maximum(start - width - reach.low[0], 0), np.maximum(reach.high[0] - (start + most * width - 1), 0)
    moving, none = most > 0, np.full(count, np.inf)
    least = np.where(moving, start - width - flat[0] + away - constant, -np.inf)
    greatest = np.where(moving, start - 1 - away - constant, np.inf)
    one = np.ones(count)
    made.rows([*sums, (step, -width * one), (above, -flat[0])], least, none)
    made.rows([*sums, (step, -width * one), (top, -flat[1])], -none, greatest)
    made.rows([(step, one), (above, -np.maximum(most, 1))], -none, np.zeros(count))
    made.rows([(step, one), (top, -most)], np.zeros(count), none)
    made.value(stage.out, step, stairs.values[first].astype(float), jump)


class _Program:
    """Columns and rows as they are added."""

    def __init__(self) -> None:
        self.low: list[NDArray[np.float64]] = []
        self.high: list[NDArray[np.float64]] = []
        self.whole: list[NDArray[np.int64]] = []
        self.values: dict[int, tuple[int, NDArray[np.float64], float]] = {}  # first column, what is at 0, scale
        self.cost: NDArray[np.float64] = np.zeros(0)
        self._rows: list[tuple[list[tuple[int, Any]], Any, Any]] = []
        self._size = 0

    def add(self, low: NDArray[Any], high: NDArray[Any], whole: bool = True) -> int:
        """New columns; the first one's place."""
        at, self._size = self._size, self._size + len(low)
        self.low.append(low.astype(float))
        self.high.append(high.astype(float))
        self.whole.append(np.full(len(low), int(whole)))
        return at

    def value(self, index: int, at: int, base: NDArray[np.float64], scale: float) -> None:
        """A value of the network is `base` and `scale` times these columns."""
        self.values[index] = at, base, scale

    def rows(self, terms: list[tuple[int, Any]], low: Any, high: Any) -> None:
        """Sums of terms, each a matrix or a diagonal and the column it begins at, within bounds."""
        self._rows.append((terms, low, high))

    def objective(self, goal: Objective, need: int) -> None:
        """To be small, and below `need`."""
        self.cost, constant = np.zeros(self._size), float(goal.constant[0])
        for index, weights in goal.coefficients.items():
            at, base, scale = self.values[index]
            self.cost[at : at + weights.shape[1]] += weights[0] * scale
            constant += float(weights[0] @ base)
        self.rows([(0, self.cost[None])], np.array([-np.inf]), np.array([need - 1 - constant]))

    def bounds(self) -> Any:
        """Of all columns."""
        from scipy.optimize import Bounds

        return Bounds(np.concatenate(self.low), np.concatenate(self.high))

    def constraints(self) -> Any:
        """All rows."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import vstack

        matrix = vstack([sum(self._wide(*term) for term in terms) for terms, _, _ in self._rows]).tocsr()
        return LinearConstraint(matrix, *(np.concatenate([row[end] for row in self._rows]) for end in (1, 2)))

    def _wide(self, at: int, part: Any) -> csr_matrix:
        from scipy.sparse import coo_matrix, csr_matrix, diags

        cells = coo_matrix(diags(part) if isinstance(part, np.ndarray) and part.ndim == 1 else part)
        return csr_matrix((cells.data, (cells.row, cells.col + at)), shape=(cells.shape[0], self._size))
