"""What follows from a network's operations alone, computed once and kept by whoever asks again: no global state."""

from __future__ import annotations

from hw.certify.interval import Interval
from hw.certify.linear import Sums
from hw.certify.staircase import Staircase
from hw.simulate.bitsim.program import Linear, Op
from hw.simulate.bitsim.recipes import Recipe


class Kept:
    """Sums and staircases by operation. Operations are known by identity, and kept alive with what is known of them."""

    def __init__(self) -> None:
        self._sums: dict[int, Sums] = {}
        self._stairs: dict[int, tuple[Op, Staircase]] = {}

    def sums(self, op: Linear) -> Sums:
        """A layer's sums."""
        return self._sums.setdefault(id(op), Sums(op))

    def stairs(self, op: Op, recipe: Recipe, reach: Interval) -> Staircase | None:
        """The staircase on what is reached: cut out of one that was tried before, or tried now on somewhat more."""
        low, high = reach.span
        held = self._stairs.get(id(op))
        if held is not None and held[1].starts[0] <= low and high <= held[1].last:
            return held[1].part(low, high)
        more = (high - low) // 2
        wide = Staircase.of(recipe, op.out, low - more, high + more)
        if wide is None:
            return Staircase.of(recipe, op.out, low, high)
        self._stairs[id(op)] = (op, wide)
        return wide.part(low, high)
