"""From inputs and a radius to verdicts: of every input the cheapest method that decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.certify.attack import descend
from hw.certify.branch import Search, closer, root
from hw.certify.certificate import Certificate, Method, Verdict
from hw.certify.doubled import Doubled, double
from hw.certify.dual import Net, Objective, Points, Regions
from hw.certify.enumeration import first_wrong, points_in
from hw.certify.interval import Interval
from hw.certify.margins import Pairs, decided, needed, objective
from hw.certify.shrink import shrink
from hw.certify.stages import Affine, Stages, stages_of
from hw.certify.tighten import deep, tightened
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Network, Softmax
from qmodels.attacks.ball import Ball
from qmodels.errors import UserError
from qmodels.grid import Codes
from qmodels.victims import Labels, decisions

_CHUNK = 128  # boxes that are bounded at once
_FLOAT_BITS = 24  # simulators give outputs in float32
_ROWS = 256  # pairs that are worked on at once: their numbers should fit the processor's cache


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Args:
        steps: of the multipliers' ascent for every input that intervals leave open; 0: chords only.
        complete: go on with branch and bound.
        timeout: seconds for each input that the rest leaves open.
        attack_steps: gradient steps of the attack that comes first.
        enumerate_up_to: a complete search tries all inputs of boxes with no more grid points.
    """

    steps: int = 30
    complete: bool = False
    timeout: float = 60.0
    attack_steps: int = 20
    enumerate_up_to: int = 1 << 22


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
        self._doubled: dict[int, Doubled | None] = {}

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
        left = work.at_once(tick)
        for first in range(0, len(left), _CHUNK):
            work.chunk(left[first : first + _CHUNK], tick)
        return work.certificate()

    def doubled(self, ball: Ball) -> Doubled | None:
        """The network that bounds whole balls of this radius at once, where there is one."""
        grid = ball.grid
        plain = grid.frozen is None and not np.ndim(grid.lower) and not np.ndim(grid.upper)
        if not plain or ball.norm != "linf" or np.ndim(ball.epsilon) or ball.epsilon >= grid.span:
            return None
        radius = int(np.floor(ball.epsilon))
        if radius not in self._doubled:
            self._doubled[radius] = double(self.network, grid, radius)
        return self._doubled[radius]

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
    if network.outputs[0].format.width > _FLOAT_BITS:
        raise UserError(
            f"certify: the outputs have {network.outputs[0].format.width} bits; up to {_FLOAT_BITS} are compared as "
            "the device compares them"
        )
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

    def at_once(self, tick: Callable[[int], None]) -> NDArray[np.int64]:
        """All inputs through bitsim's kernels; the rows that this leaves open."""
        everything = np.arange(len(self.ball))
        doubled = self.certifier.doubled(self.ball)
        inside = (self.ball.clean >= self.ball.grid.lower) & (self.ball.clean <= self.ball.grid.upper)
        if doubled is None or not inside.all():
            return everything
        start = time.process_time()
        shown = doubled.certified(self.ball.clean, self.y, self.certifier.simulator.threads)
        self._set(everything[shown], "certified", "intervals")
        self.seconds += (time.process_time() - start) / len(self.ball)
        tick(int(shown.sum()))
        return np.flatnonzero(~shown)

    def chunk(self, rows: NDArray[np.int64], tick: Callable[[int], None]) -> None:
        """Some inputs, through all methods."""
        start = time.process_time()
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
        self.seconds[right] += (time.process_time() - start) / len(right)
        if last is not None and len(left):
            self._relaxed(right, stages, last, pairs, closed)
            after = np.flatnonzero(self.verdicts[right] == "unknown")
            tick(len(left) - len(after))
            left = after
        if not self.effort.complete:
            tick(len(left))
            return
        for image in left:
            start = time.process_time()
            deadline = start + self.effort.timeout
            if not self._enumerated(right[image], deadline) and last is not None:
                mine = np.flatnonzero((pairs.image == image) & ~closed)
                self._search(right, stages, last, pairs.take(mine), deadline)
            self.seconds[right[image]] += time.process_time() - start
            tick(1)

    def _by_intervals(self, stages: Stages, last: Affine, pairs: Pairs) -> NDArray[np.bool_]:
        """The last layer elided: bounds of the difference of two of its rows."""
        goal = objective(Net.of(stages), last, pairs)
        low = goal.constant.copy()
        for index, weights in goal.coefficients.items():
            box = stages.bounds[index].take(slice(None))
            rows = Interval(box.low[pairs.image], box.high[pairs.image]).times(weights)
            low += rows.low.sum(axis=1)
        return np.asarray(low >= needed(last, pairs))

    def _close(
        self, right: NDArray[np.int64], pairs: Pairs, closed: NDArray[np.bool_], method: Method
    ) -> NDArray[np.int64]:
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
    ) -> None:
        net = Net.of(stages)
        front = net.upto(last.out)
        rows = np.flatnonzero(~closed)
        start = time.process_time()
        ours = pairs.take(rows)
        goal = objective(net, last, ours)
        need = needed(last, ours)
        regions = Regions.of(stages, front)
        question = _Question(self, right, stages, front, ours)
        for part in _parts(np.arange(len(rows))):
            _, shown = root(front, regions.take(ours.image[part]), goal.take(part), need[part], 0)
            closed[rows[part[shown]]] = True
        for part in _parts(np.flatnonzero(~closed[rows])):
            question.take(part).attack(regions.take(ours.image[part]), goal.take(part))
        left = np.flatnonzero(~closed[rows] & question.alive()) if self.effort.steps else rows[:0]
        for part in _parts(left):
            found, shown = root(front, regions.take(ours.image[part]), goal.take(part), need[part], self.effort.steps)
            for points in found.inputs:
                question.broken(part, points, "relaxation")
            closed[rows[part[shown]]] = True
        spent = len(np.unique(ours.image))
        self.seconds[right[np.unique(ours.image)]] += (time.process_time() - start) / spent
        self._close(right, pairs, closed, "relaxation")

    def _enumerated(self, image: int, deadline: float) -> bool:
        """Whether trying every input has decided this one."""
        ball = self.ball.take(np.array([image]))
        if points_in(ball) > self.effort.enumerate_up_to:
            return False
        alive = lambda: time.process_time() < deadline  # noqa: E731
        done, found = first_wrong(ball, int(self.y[image]), self.certifier.wrong, alive)
        if found is not None:
            self.examples[image] = found[0]
        if done:
            self._set(np.array([image]), "certified" if found is None else "broken", "enumeration")
        return done

    def _search(self, right: NDArray[np.int64], stages: Stages, last: Affine, pairs: Pairs, deadline: float) -> None:
        net = Net.of(stages)
        front = net.upto(last.out)
        question = _Question(self, right, stages, front, pairs, deadline)
        goal, need = objective(net, last, pairs), needed(last, pairs)
        regions = Regions.of(stages, front).take(pairs.image)
        for _ in range(3):
            question.attack(regions, goal)
        if not question.alive().any():
            return
        front, regions, goal, question.elements = shrink(front, regions, goal)
        if deep(front):
            regions = tightened(front, regions.take(np.zeros(1, np.int64)), 10).take(np.zeros(len(need), np.int64))
        found, shown = root(front, regions, goal, need, 2 * self.effort.steps)
        left = np.flatnonzero(~shown)
        if len(left):
            sub = question.take(left)
            steps = self.effort.steps
            bent, _, closed = closer(
                front, regions.take(left), goal.take(left), need[left], found.some(left), 3 * steps
            )
            shown[left] = closed
            still = np.flatnonzero(~closed)
            left, sub, bound = left[still], question.take(left[still]), bent.value[still]
        if len(left):
            search = Search(front, goal.take(left), need[left], sub.broken, sub.alive, self.effort.steps // 2)
            shown[left] = search.run(regions.take(left), found.some(left), bound)
        image = right[pairs.image[0]]
        if shown.all() and self.verdicts[image] == "unknown":
            self._set(np.array([image]), "certified", "search")


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS)]


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
        self.right, self.stages = right, stages
        self.rows = right[pairs.image]
        self.elements: dict[int, NDArray[np.int64]] = {}
        self.leaf = next((i for i, where in stages.origin.items() if where is not None), None)
        if self.leaf is not None:
            self.origin = stages.origin[self.leaf]
            self.box = stages.leaves[self.leaf]

    def take(self, rows: NDArray[np.int64]) -> _Question:
        """Some of the pairs."""
        found = _Question(self.work, self.right, self.stages, self.front, self.pairs.take(rows), self.deadline)
        found.elements = self.elements
        return found

    def alive(self) -> NDArray[np.bool_]:
        """Which pairs still need an answer."""
        open_now = np.asarray(self.work.verdicts[self.rows] == "unknown")
        return open_now & (time.process_time() < self.deadline)

    def attack(self, regions: Regions, goal: Objective) -> None:
        """Every pair from a point of its own."""
        everything = np.arange(len(self.pairs))
        for points in descend(self.front, regions, goal, self.work.effort.attack_steps, self.work.certifier._rng):
            self.broken(everything, points, "attack")

    def broken(self, rows: NDArray[np.int64], points: Points, method: Method = "search") -> NDArray[np.bool_]:
        """Try the inputs that leaves (rows, n) of some pairs come from; which pairs' images are broken."""
        work = self.work
        if self.leaf is None or self.leaf not in points:
            return ~self.alive()
        image = self.rows[rows]
        own = self.pairs.image[rows]
        low, high = self.box.low[own], self.box.high[own]
        at_leaf = points[self.leaf]
        if self.leaf in self.elements:  # of a shrunk network: the others cannot change
            at_leaf = low.copy()
            at_leaf[:, self.elements[self.leaf]] = points[self.leaf]
        share = (at_leaf - low) / np.maximum(high - low, 1)
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
