"""Images and rivals that are worked on together: what is still open, and inputs that are shown to the device."""

from __future__ import annotations

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
from hw.certify.program import suspects
from hw.certify.rows import rows_of
from hw.certify.stages import Stages
from hw.certify.tighten import deep
from hw.certify.verdicts import Verdicts
from hw.certify.whole import whole_inputs
from qmodels.attacks.local_search import anneal
from qmodels.grid import Codes

_LOOK = 0.5  # of the time that is left: for a mixed-integer program; branch and cut has the rest
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
        self.rows = right[pairs.image]
        self.elements: dict[int, NDArray[np.int64]] = {}
        self.began = time.monotonic(), time.process_time()
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

    def _slower(self) -> float:
        """How many seconds have passed for each of the processor: HiGHS counts the former."""
        wall, processor = time.monotonic() - self.began[0], time.process_time() - self.began[1]
        return max(wall / max(processor, 1e-3), 1.0) if wall > 0.1 else 1.0

    def by_programs(
        self,
        row: int,
        net: Net,
        regions: Regions,
        goal: Objective,
        need: NDArray[np.int64],
        lam: Multipliers,
        left: int,
    ) -> bool:
        """One pair by integer programs: HiGHS looks for inputs, branch and cut proves that there are none.

        With one hidden layer a proof is tried only where HiGHS needed little time: else the search does better with
        the rest. Behind a second one its bounds are loose.

        Args:
            row: which pair.
            net: stages, perhaps of a shrunk network.
            regions: one row.
            goal: one row.
            need: (1,).
            lam: multipliers of it.
            left: how many pairs need an answer, with this one: they share the time.
        """
        if self.leaf not in net.leaves:
            return False
        rng, seconds = self.known.subject.rng, _LOOK * (self.deadline - time.process_time()) / left
        if seconds <= 0:
            return False
        points, ended = suspects(net, regions, goal, int(need[0]), seconds * self._slower(), rng)
        if points is not None:
            self.broken(np.full(len(points[self.leaf]), row), points)
        if not (ended or deep(net)) or not self.alive()[row]:
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
            points = whole_inputs(net, regions, near, _NEAR, rng)
            return bool(self.broken(np.full(_NEAR, row), points)[row])

        return Cutting(rows, alive, show).impossible()
