"""Which design is attacked next, and when it is enough.

Every design has an upper bound of its worst case: what is left after the pool's examples and after the steps of its own
worst case so far. Where certificates prove something there is a lower bound too, and certified images are not attacked.
A round gives the most hopeful designs their next step; what it finds joins the pool. It is enough when no design, by
its bound, could be on a front beside those whose worst case is complete or is proved to be no lower. So no choice
rests on the pool: it decides only who is attacked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from hw.sizing.asker import TITLES, Asker
from hw.sizing.config import SizingConfig
from hw.sizing.points import Point
from hw.sizing.pool import Examples, Pool, pack_mask, unpack_mask
from hw.sizing.questions import Standing
from hw.sizing.ranking import Ranking
from hw.sizing.steps import worst_case_steps
from hw.sizing.store import Answer

POOL = "examples of other designs"
_AHEAD = 4  # rounds whose designs are tried on the pool at first; twice as many whenever others come to the head


class NotComputed(Exception):
    """An answer that the store does not have was needed, and nobody is there to compute it."""


class Contest:
    """Rounds of attacks, and the pool between them."""

    def __init__(self, config: SizingConfig, asker: Asker) -> None:
        """For the designs of one sizing."""
        self._config, self._asker = config, asker
        self._axes = tuple(dict.fromkeys((*config.costs, "weight_bits")))  # recommendations count weight bits
        self._steps = worst_case_steps(config.worst_case.attack)
        self._attacked: set[str] = set()  # trainings that have had their seeds
        self._provable: set[str] = set()  # trainings of whose seeds at least one image was certified
        self.pools: dict[str, Pool] = {}  # by data: examples are of one split's images

    def decide(self, points: Sequence[Point]) -> None:
        """Attack designs until no other one could be on a front.

        Raises:
            NotComputed: there is no crew, and the store does not know the rest.
        """
        alive = [point for point in points if point.fallen is not None and not point.error]
        self.seed(alive)
        ranking = Ranking(alive, self._axes)
        while chosen := self._next(ranking):
            self._attack(chosen)
        for point in alive:
            if not point.done and not point.error:
                point.set_aside = "as good a design costs no more, by the bound"

    def seed(self, points: Sequence[Point]) -> None:
        """The whole worst case on some designs of every training that has not had it: their examples begin the pool."""
        groups: dict[str, list[Point]] = {}
        for point in points:
            groups.setdefault(point.design.model_key, []).append(point)
        seeds = [
            point
            for key, group in groups.items()
            if key not in self._attacked
            for point in _spread(group, self._config.screening.seeds)
        ]
        self._attacked |= groups.keys()
        if not self._config.screening.off:
            self._prove(seeds)
        self._provable |= {point.design.model_key for point in seeds if point.lower_bound}
        while seeds := [point for point in seeds if not point.done and not point.error]:
            self._attack(seeds)

    def bound(self, points: Sequence[Point]) -> None:
        """Try what the pool has and these designs have not seen."""
        behind = [point for point in points if self._is_behind(point) and not point.error]
        standing = {
            point.design.key: Standing(_mask(point), pool=tuple(self._pool(point).names[point.generations :]))
            for point in behind
        }
        self._ask("pool", behind, standing, lambda point, answer: self._take(point, answer, POOL))
        for point in behind:
            point.generations = len(self._pool(point).names)

    def _prove(self, points: Sequence[Point]) -> None:
        """Ask what no attack can break; it ends the comparison with whoever cannot be better than that."""
        asked = [point for point in points if point.certified is None and not point.error]

        def note(point: Point, answer: Answer) -> None:
            assert point.fallen is not None
            point.take_proof(unpack_mask(answer.value["certified"], len(point.fallen)))

        self._ask("certify", asked, {}, note)

    def _pool(self, point: Point) -> Pool:
        return self.pools.setdefault(point.design.data_key, Pool())

    def _is_behind(self, point: Point) -> bool:
        return point.generations < len(self._pool(point).names)

    def _is_unproved(self, point: Point) -> bool:
        """Where nothing of a training's seeds was certified, nothing is asked of its other designs."""
        return point.certified is None and point.design.model_key in self._provable

    def _next(self, ranking: Ranking) -> list[Point]:
        """The most hopeful designs, all of them tried on the whole pool; none when it is enough."""
        ahead = _AHEAD * self._config.screening.round
        while True:
            ranked = self._ranked(ranking, ahead)
            if not ranked:
                behind = [
                    point for point in ranking.points if point.done and self._is_behind(point) and not point.error
                ]
                if not behind:
                    return []
                self.bound(behind)
                continue
            chosen = ranked[: self._config.screening.round]
            if not any(self._is_behind(point) or self._is_unproved(point) for point in chosen):
                return chosen
            self._prove([point for point in ranked if self._is_unproved(point)])
            self.bound(ranked)
            ahead *= 2

    def _ranked(self, ranking: Ranking, count: int) -> list[Point]:
        """The waiting designs that could be on a front, the most hopeful first."""
        points = ranking.points
        bounds = np.array([point.bound for point in points], float)
        known = np.array([None if point.error else point.at_least for point in points], float)
        waiting = np.array([not point.done and not point.error for point in points], bool)
        if not self._config.screening.off:
            waiting &= ranking.hopeful(bounds, known)
        return ranking.ranked(bounds, np.flatnonzero(waiting), count)

    def _attack(self, chosen: Sequence[Point]) -> None:
        """The next step of each; what it finds is the pool's next generation."""
        standing = {}
        for point in chosen:
            step = self._steps[point.steps]
            names = self._pool(point).names if step.warm else ()
            certified = "" if point.certified is None or not point.certified.any() else pack_mask(point.certified)
            standing[point.design.key] = Standing(_mask(point), point.steps, tuple(names), certified)
        found: dict[str, list[Examples]] = {}

        def note(point: Point, answer: Answer) -> None:
            self._take(point, answer, self._steps[point.steps].label)
            point.steps, point.attack_seconds = point.steps + 1, point.attack_seconds + answer.seconds
            point.done = point.done or point.steps == len(self._steps)
            examples = self._asker.examples(answer)
            if examples is not None:
                found.setdefault(point.design.data_key, []).append(examples)

        self._ask("attack", chosen, standing, note)
        for data, parts in found.items():
            generation = self.pools.setdefault(data, Pool()).add(parts)
            if generation is not None:
                self._asker.share_examples(generation)

    def _ask(
        self,
        stage: str,
        points: Sequence[Point],
        standing: dict[str, Standing],
        note: Callable[[Point, Answer], None],
    ) -> None:
        answers = self._asker.ask(stage, [point.design for point in points], standing)
        for point in sorted(points, key=lambda point: point.design.key):
            answer = answers.get(point.design.key)
            if answer is not None and answer.error:
                point.error = f"{TITLES[stage]}: {answer.error}"
            elif answer is not None:
                note(point, answer)
        if len(answers) < len(points):
            raise NotComputed

    def _take(self, point: Point, answer: Answer, to: str) -> None:
        assert point.fallen is not None
        point.take_over(unpack_mask(answer.value["fallen"], len(point.fallen)), to)


def _mask(point: Point) -> str:
    assert point.fallen is not None
    return pack_mask(point.fallen)


def _spread(points: Sequence[Point], count: int) -> list[Point]:
    """The best clean accuracy in each of `count` slices of the designs, by weight bits."""
    ordered = sorted(points, key=lambda point: (point.cost("weight_bits"), point.design.key))
    borders = [len(ordered) * place // count for place in range(count + 1)]
    slices = [ordered[first:last] for first, last in itertools.pairwise(borders) if first < last]
    return [max(part, key=lambda point: (point.clean or 0.0, point.design.key)) for part in slices]
