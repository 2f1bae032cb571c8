"""One call of `certify` as it goes on: from cheap methods to dear ones."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from hw.certify.branch import Search
from hw.certify.budget import Budget
from hw.certify.certificate import Method
from hw.certify.closer import closer, root
from hw.certify.doubled import Doubled
from hw.certify.dual import Multipliers, Net, Objective, Points, Regions
from hw.certify.enumeration import first_wrong, points_in
from hw.certify.interval import Interval
from hw.certify.joint import joined
from hw.certify.margins import Pairs, decided, needed, objective
from hw.certify.question import Question
from hw.certify.shrink import shrink
from hw.certify.stages import Affine, Stages, stages_of
from hw.certify.tighten import deep, tightened
from hw.certify.verdicts import Tick, Verdicts

_ROUNDS = 60  # moves of a local search
_WALKED, _SHARE = 3, 0.1  # rivals that are walked towards at once, and of the time that is left for walks
_TIGHTEN = 40  # steps of an ascent for every inner sum
_ROWS = 256  # pairs that are worked on at once: their numbers should fit the processor's cache


class Work:
    """The methods, one after the other.

    Args:
        known: what they find out.
        doubled: the network that bounds all balls at once, where there is one.
    """

    def __init__(self, known: Verdicts, doubled: Doubled | None) -> None:
        self.known, self.doubled = known, doubled

    def at_once(self, tick: Tick) -> NDArray[np.int64]:
        """All inputs through bitsim's kernels; the rows that this leaves open."""
        known, ball = self.known, self.known.ball
        everything = np.arange(len(ball))
        inside = (ball.clean >= ball.grid.lower) & (ball.clean <= ball.grid.upper)
        if self.doubled is None or not inside.all():
            return everything
        start = time.process_time()
        shown = self.doubled.certified(ball.clean, known.y, known.subject.simulator.threads)
        known.set(everything[shown], "certified", "intervals")
        known.seconds += (time.process_time() - start) / len(ball)
        tick(int(shown.sum()))
        return np.flatnonzero(~shown)

    def chunk(self, rows: NDArray[np.int64], tick: Tick) -> None:
        """Some inputs, through all methods."""
        start, known, ball, subject = time.process_time(), self.known, self.known.ball, self.known.subject
        wrong = subject.wrong(ball.clean[rows], known.y[rows])
        known.set(rows[wrong], "broken", "clean")
        right = rows[~wrong]
        tick(int(wrong.sum()))
        if not len(right):
            return
        flat = [end[right].reshape(len(right), -1).astype(np.int64) for end in (known.low, known.high)]
        box, budget = Interval(flat[0], flat[1]), Budget.of(ball.take(right))
        stages = stages_of(subject.network, box, ball.grid.format, subject.kept, budget)
        pairs = Pairs.of(known.y[right], subject.classes)
        closed = decided(stages.bounds[stages.output], pairs)
        last = stages.last
        if last is not None:
            closed |= self._by_intervals(stages, last, pairs)
        left = self._close(right, pairs, closed, "intervals")
        tick(len(right) - len(left))
        self.known.seconds[right] += (time.process_time() - start) / len(right)
        if last is not None and len(left):
            self._relaxed(right, stages, last, pairs, closed)
            after = np.flatnonzero(self.known.verdicts[right] == "unknown")
            tick(len(left) - len(after))
            left = after
        if not self.known.effort.complete:
            tick(len(left))
            return
        for image in left:
            start = time.process_time()
            deadline = start + self.known.effort.timeout
            if not self._enumerated(right[image], deadline) and last is not None:
                mine = np.flatnonzero((pairs.image == image) & ~closed)
                self._search(right, stages, last, pairs.take(mine), deadline)
            self.known.seconds[right[image]] += time.process_time() - start
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
        open_now = self.known.verdicts[right] == "unknown"
        self.known.set(right[~still & open_now], "certified", method)
        return np.flatnonzero(still & open_now)

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
        question = Question(self.known, right, stages, front, ours)
        for part in _parts(np.arange(len(rows))):
            _, shown = root(front, regions.take(ours.image[part]), goal.take(part), need[part], 0)
            closed[rows[part[shown]]] = True
        for part in _parts(np.flatnonzero(~closed[rows])):
            question.take(part).attack(regions.take(ours.image[part]), goal.take(part))
        steps = self.known.effort.steps
        for part in _parts(np.flatnonzero(~closed[rows] & question.alive()) if steps else rows[:0]):
            where, mine, wanted = regions.take(ours.image[part]), goal.take(part), need[part]
            found, shown = root(front, where, mine, wanted, steps)
            for points in found.inputs:
                question.broken(part, points, "relaxation")
            left = np.flatnonzero(~shown & question.take(part).alive())
            if len(left):
                bent = closer(front, where.take(left), mine.take(left), wanted[left], found.some(left), steps)
                shown[left] = bent.shown
            closed[rows[part[shown]]] = True
        spent = len(np.unique(ours.image))
        self.known.seconds[right[np.unique(ours.image)]] += (time.process_time() - start) / spent
        self._close(right, pairs, closed, "relaxation")

    def _enumerated(self, image: int, deadline: float) -> bool:
        """Whether trying every input has decided this one."""
        ball = self.known.ball.take(np.array([image]))
        if points_in(ball) > self.known.effort.enumerate_up_to:
            return False
        alive = lambda: time.process_time() < deadline  # noqa: E731
        done, found = first_wrong(ball, int(self.known.y[image]), self.known.subject.wrong, alive)
        if found is not None:
            self.known.examples[image] = found[0]
        if done:
            self.known.set(np.array([image]), "certified" if found is None else "broken", "enumeration")
        return done

    def _search(self, right: NDArray[np.int64], stages: Stages, last: Affine, pairs: Pairs, deadline: float) -> None:
        net = Net.of(stages)
        front = net.upto(last.out)
        question = Question(self.known, right, stages, front, pairs, deadline)
        goal, need = objective(net, last, pairs), needed(last, pairs)
        regions = Regions.of(stages, front).take(pairs.image)
        for _ in range(3):
            question.attack(regions, goal)
        if not question.alive().any():
            return
        front, regions, goal, question.elements = shrink(front, regions, goal)
        one = regions.take(np.zeros(1, np.int64))
        attempts: list[tuple[Net, Regions, Points | None]] = [(front, one, None)]
        if (smaller := joined(front, one, goal)) is not None:  # its leaf is no input of the network
            near = root(front, regions, goal, need, self.known.effort.steps)[0].inputs[-1]
            attempts.insert(0, (*smaller, near))  # what it leaves open before the time is up may be closed without it
        for net, region, start in attempts:
            if not question.alive().any():
                return
            inner = tightened(net, region, _TIGHTEN) if deep(net) else region
            if self._ruled_out(net, inner.take(np.zeros(len(need), np.int64)), goal, need, question, start):
                if question.alive().any():
                    self.known.set(right[pairs.image[:1]], "certified", "search")
                return

    def _ruled_out(
        self,
        front: Net,
        regions: Regions,
        goal: Objective,
        need: NDArray[np.int64],
        question: Question,
        start: Points | None,
    ) -> bool:
        """Whether all rivals of one image are ruled out; a local search begins at `start`, or where the root ends."""
        steps = self.known.effort.steps
        found, shown = root(front, regions, goal, need, 2 * steps)
        start = found.inputs[-1] if start is None else start
        left = np.flatnonzero(~shown)
        if not len(left):
            return True
        bent = closer(front, regions.take(left), goal.take(left), need[left], found.some(left), 3 * steps)
        hard = left[~bent.shown]
        if not len(hard):
            return True
        sub, some, bound = question.take(hard), found.some(hard), bent.value[~bent.shown]
        goal, need, regions = goal.take(hard), need[hard], regions.take(hard)
        for place, row in enumerate(np.argsort(bound)):
            one = np.array([row])
            if not sub.alive()[row]:
                continue
            share = _SHARE if place < _WALKED else 0.0
            walked = sub.walk(int(row), front, regions.take(one), goal.take(one), int(need[row]), share)
            if not walked and sub.leaf in start:
                sub.anneal(int(row), start[sub.leaf][hard[row]], _ROUNDS)

        def stuck(rows: NDArray[np.int64], regions: Regions, lam: Multipliers) -> NDArray[np.bool_]:
            return sub.by_programs(rows, front, regions, goal.take(rows), need[rows], lam)

        search = Search(front, goal, need, sub.broken, sub.alive, steps // 2, stuck)
        return bool(search.run(bent.remains().take(np.flatnonzero(~bent.shown)), some, bound).all())


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS)]
