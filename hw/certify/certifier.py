"""From inputs and a radius to verdicts: of every input the cheapest method that decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.certify.attack import descend
from hw.certify.branch import prove, root, search
from hw.certify.certificate import Certificate, Method, Verdict
from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.interval import Interval
from hw.certify.margins import Pairs, decided, needed, objective
from hw.certify.stages import Affine, Stages, stages_of
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Network, Softmax
from qmodels.attacks.ball import Ball
from qmodels.errors import UserError
from qmodels.grid import Codes
from qmodels.victims import Labels, decisions

_CHUNK = 128  # boxes that are bounded at once


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Args:
        steps: of the multipliers' ascent for every input that intervals leave open; 0: chords only.
        complete: go on with branch and bound.
        timeout: seconds for each input that the rest leaves open.
        attack_steps: gradient steps of the attack that comes first.
    """

    steps: int = 60
    complete: bool = False
    timeout: float = 60.0
    attack_steps: int = 20


class Certifier:
    """Proves what one accelerator decides."""

    def __init__(self, simulator: BitSim) -> None:
        """Take the network that bitsim simulates.

        Raises:
            UserError: it is no classifier of one input with logits as its output.
        """
        self.simulator = simulator
        self.network = fuse(simulator.network)
        _check(self.network)
        self.classes = self.network.outputs[0].size
        self._rng = np.random.default_rng(0)

    def certify(
        self, ball: Ball, y: Labels, effort: Effort = Effort(), tick: Callable[[int], None] = lambda _: None
    ) -> Certificate:
        """Verdicts on every input of the ball.

        Args:
            ball: inputs, norm and radius.
            y: true classes (N,).
            effort: how hard to try.
            tick: told how many inputs have been dealt with, as they are.
        """
        work = _Work(self, ball, np.asarray(y), effort)
        for first in range(0, len(ball), _CHUNK):
            rows = np.arange(first, min(first + _CHUNK, len(ball)))
            work.chunk(rows, tick)
        return work.certificate()

    def wrong(self, x: Codes, y: Labels) -> NDArray[np.bool_]:
        """Where the device decides wrongly, or not at all."""
        return np.asarray(decisions(self.simulator.logits(x)) != y)


def _check(network: Network) -> None:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UserError(
            f"certify: the network has {len(network.inputs)} inputs and {len(network.outputs)} outputs; "
            "certificates are for one input and one output of logits"
        )
    if isinstance(network.ops[-1], Softmax):
        raise UserError("certify: the network ends in a softmax; certificates are for logits: leave the last layer out")
    if network.outputs[0].size < 2:
        raise UserError("certify: the network has one output; certificates are for two classes or more")


class _Work:
    """One call of `certify` as it goes on."""

    def __init__(self, certifier: Certifier, ball: Ball, y: Labels, effort: Effort) -> None:
        self.certifier, self.ball, self.y, self.effort = certifier, ball, y, effort
        count = len(ball)
        self.verdicts = np.full(count, "unknown", "<U9")
        self.methods = np.full(count, "none", "<U11")
        self.examples = ball.clean.copy()
        self.seconds = np.zeros(count)
        self.low, self.high = ball.box

    def certificate(self) -> Certificate:
        ball = self.ball
        return Certificate(
            self.verdicts, self.methods, self.examples, ball.epsilon, ball.norm, self.seconds, self.effort.complete
        )

    def chunk(self, rows: NDArray[np.int64], tick: Callable[[int], None]) -> None:
        """Some inputs, through all methods."""
        start = time.perf_counter()
        wrong = self.certifier.wrong(self.ball.clean[rows], self.y[rows])
        self._set(rows[wrong], "broken", "clean")
        right = rows[~wrong]
        tick(int(wrong.sum()))
        if not len(right):
            return
        flat = [end[right].reshape(len(right), -1).astype(np.int64) for end in (self.low, self.high)]
        stages = stages_of(self.certifier.network, Interval(flat[0], flat[1]), self.ball.grid.format)
        pairs = Pairs.of(self.y[right], self.certifier.classes)
        closed = decided(stages.bounds[stages.output], pairs)
        last = stages.last
        if last is not None:
            closed |= self._by_intervals(stages, last, pairs)
        left = self._close(right, pairs, closed, "intervals")
        tick(len(right) - len(left))
        self.seconds[right] += (time.perf_counter() - start) / len(right)
        if last is not None and len(left):
            self._relaxed(right, stages, last, pairs, closed, tick)

    def _by_intervals(self, stages: Stages, last: Affine, pairs: Pairs) -> NDArray[np.bool_]:
        """The last layer elided: bounds of the difference of two of its rows."""
        goal = objective(Net.of(stages), last, pairs)
        low = goal.constant.copy()
        for index, weights in goal.coefficients.items():
            box = stages.bounds[index].take(slice(None))
            rows = Interval(box.low[pairs.image], box.high[pairs.image]).times(weights)
            low += rows.low.sum(axis=1)
        return np.asarray(low >= needed(last, pairs))

    def _close(self, right: NDArray[np.int64], pairs: Pairs, closed: NDArray[np.bool_], method: Method) -> NDArray[np.int64]:
        """Certify the images all of whose rivals are ruled out; the others, as rows of the chunk."""
        still = np.zeros(len(right), np.bool_)
        still[pairs.image[~closed]] = True
        open_now = self.verdicts[right] == "unknown"
        self._set(right[~still & open_now], "certified", method)
        return np.flatnonzero(still & open_now)

    def _set(self, rows: NDArray[np.int64], verdict: Verdict, method: Method) -> None:
        self.verdicts[rows], self.methods[rows] = verdict, method

    def _relaxed(
        self,
        right: NDArray[np.int64],
        stages: Stages,
        last: Affine,
        pairs: Pairs,
        closed: NDArray[np.bool_],
        tick: Callable[[int], None],
    ) -> None:
        net = Net.of(stages)
        front = net.upto(last.out)
        rows = np.flatnonzero(~closed)
        start = time.perf_counter()
        ours = pairs.take(rows)
        question = _Question(self, right, stages, front, ours)
        goal = objective(net, last, ours)
        need = needed(last, ours)
        regions = Regions.of(stages).take(ours.image)
        question.attack(regions, goal)
        alive = np.flatnonzero(question.alive())
        if len(alive):
            found, shown = root(front, regions.take(alive), goal.take(alive), need[alive], self.effort.steps)
            for points in found.inputs:
                question.broken(alive, points, "relaxation")
            closed[rows[alive[shown]]] = True
        spent = len(np.unique(ours.image))
        self.seconds[right[np.unique(ours.image)]] += (time.perf_counter() - start) / spent
        left = self._close(right, pairs, closed, "relaxation")
        tick(spent - len(left))
        if not self.effort.complete:
            tick(len(left))
            return
        for image in left:
            start = time.perf_counter()
            mine = np.flatnonzero((pairs.image == image) & ~closed)
            self._search(right, stages, net, last, pairs.take(mine), start + self.effort.timeout)
            self.seconds[right[image]] += time.perf_counter() - start
            tick(1)

    def _search(
        self, right: NDArray[np.int64], stages: Stages, net: Net, last: Affine, pairs: Pairs, deadline: float
    ) -> None:
        front = net.upto(last.out)
        question = _Question(self, right, stages, front, pairs, deadline)
        goal, need = objective(net, last, pairs), needed(last, pairs)
        regions = Regions.of(stages).take(pairs.image)
        for _ in range(3):
            question.attack(regions, goal)
        if not question.alive().any():
            return
        found, shown = root(front, regions, goal, need, 2 * self.effort.steps)
        left = np.flatnonzero(~shown)
        if len(left):
            sub = _Question(self, right, stages, front, pairs.take(left), deadline)
            proved = search(
                front,
                regions.take(left),
                goal.take(left),
                need[left],
                found.some(left),
                sub.broken,
                sub.alive,
                self.effort.steps // 2,
            )
            shown[left] = proved
        image = right[pairs.image[0]]
        if shown.all() and self.verdicts[image] == "unknown":
            self._set(np.array([image]), "certified", "search")


class _Question:
    """Pairs of images and rivals that are worked on, and what is found out about their images on the way."""

    def __init__(
        self,
        work: _Work,
        right: NDArray[np.int64],
        stages: Stages,
        front: Net,
        pairs: Pairs,
        deadline: float = float("inf"),
    ) -> None:
        self.work, self.front, self.pairs, self.deadline = work, front, pairs, deadline
        self.rows = right[pairs.image]
        self.leaf = next((i for i, where in stages.origin.items() if where is not None), None)
        if self.leaf is not None:
            self.origin = stages.origin[self.leaf]
            self.box = stages.leaves[self.leaf]

    def alive(self) -> NDArray[np.bool_]:
        """Which pairs still need an answer."""
        open_now = np.asarray(self.work.verdicts[self.rows] == "unknown")
        return open_now & (time.perf_counter() < self.deadline)

    def attack(self, regions: Regions, goal: Objective) -> None:
        """Every pair from a point of its own."""
        everything = np.arange(len(self.pairs))
        for points in descend(self.front, regions, goal, self.work.effort.attack_steps, self.work.certifier._rng):
            self.broken(everything, points, "attack")

    def broken(
        self, rows: NDArray[np.int64], points: Points, method: Method = "search"
    ) -> NDArray[np.bool_]:
        """Try the inputs that leaves (rows, n) of some pairs come from; which pairs' images are broken."""
        work = self.work
        if self.leaf is None or self.leaf not in points:
            return ~self.alive()
        image = self.rows[rows]
        own = self.pairs.image[rows]
        low, high = self.box.low[own], self.box.high[own]
        share = (points[self.leaf] - low) / np.maximum(high - low, 1)
        codes = work.ball.clean[image].reshape(len(rows), -1).astype(np.int64)
        least, most = (end[image].reshape(len(rows), -1) for end in (work.low, work.high))
        known = (self.origin >= 0)[None, :] & (high > low)
        at = np.maximum(self.origin, 0)
        moved = least[:, at] + np.rint(share * (most - least)[:, at]).astype(np.int64)
        row, element = np.nonzero(known)
        codes[row, at[element]] = moved[row, element]
        shape = (len(rows), *work.ball.shape)
        x = work.ball.take(image).project(codes.reshape(shape))
        wrong = work.certifier.wrong(x, work.y[image])
        fresh = wrong & (work.verdicts[image] == "unknown")
        work.examples[image[fresh]] = x[fresh]
        work._set(image[fresh], "broken", method)
        return np.asarray(work.verdicts[self.rows] == "broken")
