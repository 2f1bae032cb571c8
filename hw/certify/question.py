"""Images and rivals that are worked on together: what is still open, and inputs that are shown to the device."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.certify.attack import descend
from hw.certify.certificate import Method
from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.margins import Pairs
from hw.certify.program import suspects
from hw.certify.stages import Stages
from hw.certify.verdicts import Verdicts
from qmodels.attacks.local_search import anneal
from qmodels.grid import Codes

_NODES, _SHARE = 200, 0.15  # of a mixed-integer program, and the share of the time for all of them


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
        self.spent = 0.0  # seconds on mixed-integer programs
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

    def program(self, row: int, net: Net, regions: Regions, goal: Objective, need: NDArray[np.int64]) -> None:
        """Ask HiGHS for inputs of one pair that may be decided wrongly, and the device about them.

        Args:
            row: which pair.
            net: stages, perhaps of a shrunk network.
            regions: one row.
            goal: one row.
            need: (1,).
        """
        if self.leaf not in net.leaves:
            return
        start = time.process_time()
        seconds = min(_SHARE * self.known.effort.timeout - self.spent, self.deadline - start) / 2
        if seconds <= 0:
            return
        points = suspects(net, regions, goal, int(need[0]), seconds, _NODES, self.known.subject.rng)
        self.spent += time.process_time() - start
        if points is not None:
            self.broken(np.full(len(points[self.leaf]), row), points)
