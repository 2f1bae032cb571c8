"""Images and rivals that are worked on together: what is still open, and inputs that are shown to the device."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.assume import assumed
from hw.certify.attack import descend
from hw.certify.certificate import Method
from hw.certify.cutting import Cutting
from hw.certify.dual import Multipliers, Net, Objective, Points, Regions
from hw.certify.margins import Pairs
from hw.certify.matrix import TooLarge
from hw.certify.rows import rows_of
from hw.certify.stages import Stages
from hw.certify.tighten import deep
from hw.certify.verdicts import Verdicts
from hw.certify.walk import Walk
from hw.certify.whole import whole_inputs
from qmodels.attacks.local_search import anneal
from qmodels.grid import Codes

# With one hidden layer, and with more, where branch and cut ends early or not at all.
_WALKS = 0.3, 0.5  # of the time, for walks
_LATER = 0.5, 0.7  # of what is left of that, for each walk that comes later
_NEAR = 32  # whole inputs that are made of a point between them
_ASSUMED, _STEPS = 3, 30  # rounds of assuming a wrong decision before, and the steps of each ascent


class Question:
    """Pairs of images and rivals that are worked on, and what is found out about their images on the way."""

    def __init__(
        self,
        known: Verdicts,
        right: NDArray[np.int64],
        stages: Stages,
        front: Net,
        pairs: Pairs,
        deadline: float = float("inf"),
    ) -> None:
        self.known, self.front, self.pairs, self.deadline = known, front, pairs, deadline
        self.right, self.stages = right, stages
        self.more = int(bool(deep(front)))  # than one hidden layer
        self.walks = _WALKS[self.more] * max(deadline - time.process_time(), 0.0)  # seconds that are left for them
        self.rows = right[pairs.image]
        self.elements: dict[int, NDArray[np.int64]] = {}
        self.leaf = next((i for i, where in stages.origin.items() if where is not None), None)
        if self.leaf is not None:
            self.origin = stages.origin[self.leaf]
            self.box = stages.leaves[self.leaf]

    def take(self, rows: NDArray[np.int64]) -> Question:
        """Some of the pairs."""
        found = Question(self.known, self.right, self.stages, self.front, self.pairs.take(rows), self.deadline)
        found.elements = self.elements
        return found

    def alive(self) -> NDArray[np.bool_]:
        """Which pairs still need an answer."""
        open_now = np.asarray(self.known.verdicts[self.rows] == "unknown")
        return open_now & (time.process_time() < self.deadline)

    def attack(self, regions: Regions, goal: Objective) -> None:
        """Every pair from a point of its own."""
        everything = np.arange(len(self.pairs))
        for points in descend(self.front, regions, goal, self.known.effort.attack_steps, self.known.subject.rng):
            self.broken(everything, points, "attack")

    def broken(self, rows: NDArray[np.int64], points: Points, method: Method = "search") -> NDArray[np.bool_]:
        """Try the inputs that leaves (rows, n) of some pairs come from; which pairs' images are broken."""
        if self.leaf is None or self.leaf not in points:
            return ~self.alive()
        if len(rows):
            self.known.show(self.inputs(rows, points[self.leaf]), self.rows[rows], method)
        return np.asarray(self.known.verdicts[self.rows] == "broken")

    def inputs(self, rows: NDArray[np.int64], at_leaf: NDArray[Any]) -> Codes:
        """The codes, inside the balls, that the leaf (rows, n) of some pairs comes from."""
        known = self.known
        image = self.rows[rows]
        own = self.pairs.image[rows]
        low, high = self.box.low[own], self.box.high[own]
        if self.leaf in self.elements:  # of a shrunk network: the others cannot change
            part, at_leaf = at_leaf, low.astype(at_leaf.dtype)
            at_leaf[:, self.elements[self.leaf]] = part
        share = (at_leaf - low) / np.maximum(high - low, 1)
        codes = known.ball.clean[image].reshape(len(rows), -1).astype(np.int64)
        least, most = (end[image].reshape(len(rows), -1) for end in (known.low, known.high))
        moving = (self.origin >= 0)[None, :] & (high > low)
        at = np.maximum(self.origin, 0)
        moved = least[:, at] + np.rint(share * (most - least)[:, at]).astype(np.int64)
        row, element = np.nonzero(moving)
        codes[row, at[element]] = moved[row, element]
        return known.ball.take(image).project(codes.reshape(len(rows), *known.ball.shape))

    def anneal(self, row: int, at_leaf: NDArray[Any], rounds: int) -> None:
        """Search the device around the input that a leaf (n,) of one pair comes from."""
        known, image = self.known, self.rows[row]
        right, rival = int(self.pairs.right[row]), int(self.pairs.rival[row])
        start = self.inputs(np.array([row]), at_leaf[None])[0]

        def margins(x: Codes) -> NDArray[np.float64]:
            logits = known.subject.simulator.logits(x)
            apart = np.asarray(logits[:, right], np.float64) - logits[:, rival]
            return np.where((apart == 0) & (right > rival), -1e-9, apart)

        found = anneal(
            known.ball.take(np.array([image])),
            start,
            margins,
            lambda: bool(self.alive()[row]),
            known.subject.rng,
            rounds,
        )
        known.show(found[None], np.array([image]), "search")

    def walk(self, row: int, net: Net, regions: Regions, goal: Objective, need: int, share: float) -> bool:
        """Look for an input of one pair that is decided wrongly; whether that could be tried.

        Args:
            row: which pair.
            net: stages, perhaps of a shrunk network.
            regions: one row.
            goal: one row.
            need: a whole number.
            share: of the seconds that are left for walks.
        """
        rng, known = self.known.subject.rng, self.known
        walk = Walk.of(net, regions, goal, need, rng) if self.leaf in net.leaves else None
        if walk is None:
            return False
        began = time.process_time()
        until = min(began + share * self.walks, self.deadline)
        with contextlib.suppress(TooLarge):  # numbers that int64 may not hold: nothing is looked for
            walk.found(
                lambda: descend(net, regions, goal, known.effort.attack_steps, rng)[-1],
                lambda: time.process_time() < until,
                lambda points: self._wrong(row, points),
            )
        self.walks -= time.process_time() - began
        return True

    def _wrong(self, row: int, points: Points) -> bool:
        """Whether the device decides one of these inputs of a pair wrongly."""
        count = len(next(iter(points.values())))
        return bool(self.broken(np.full(count, row), points)[row])

    def by_programs(
        self,
        rows: NDArray[np.int64],
        net: Net,
        regions: Regions,
        goal: Objective,
        need: NDArray[np.int64],
        lam: Multipliers,
    ) -> NDArray[np.bool_]:
        """Pairs by linear programs: walks look for inputs, then branch and cut proves that there are none.

        Args:
            rows: which pairs, the likeliest to be decided wrongly first.
            net: stages, perhaps of a shrunk network.
            regions: a row for each.
            goal: likewise.
            need: likewise.
            lam: multipliers, likewise.

        Returns:
            Which of them are proved.
        """
        each = [np.array([place]) for place in range(len(rows))]
        for row, one in zip(rows, each, strict=True):
            if self.alive()[row]:
                share = _LATER[self.more]
                self.walk(int(row), net, regions.take(one), goal.take(one), int(need[one[0]]), share)
        proved = np.zeros(len(rows), np.bool_)
        for row, one in zip(rows, each, strict=True):
            if self.alive()[row]:
                mine = {index: multipliers[one] for index, multipliers in lam.items()}
                proved[one] = self._cut(int(row), net, regions.take(one), goal.take(one), need[one], mine)
        return proved

    def _cut(
        self, row: int, net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64], lam: Multipliers
    ) -> bool:
        """Whether branch and cut proves that one pair is decided rightly."""
        if self.leaf is None or self.leaf not in net.leaves:
            return False
        for _ in range(_ASSUMED):
            regions, gone = assumed(net, regions, goal, need, lam, _STEPS)
            if gone[0]:
                return True
        rows = rows_of(net, regions, goal, int(need[0]))
        if rows is None:
            return False

        def alive() -> bool:  # without this proof those of other rivals would be of no use
            return time.process_time() < self.deadline

        def show(near: Points) -> bool:
            return self._wrong(row, whole_inputs(net, regions, near, _NEAR, self.known.subject.rng))

        return Cutting(rows, alive, show).impossible()
