"""Walks over the steps of the first sums: they tell what every input tells, and find inputs decided wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.certify import Certifier, Effort
from hw.certify.first_sums import FirstSums
from hw.certify.walk import Walk
from qmodels.attacks.ball import Ball
from tests.hw.certify.test_assume import enumerated
from tests.hw.certify.test_certifier import GRID, assert_agrees, subject, truth

pytestmark = pytest.mark.gxx


def walk(seed, share, epsilon=2):
    """A walk towards the inputs with the smallest differences; all inputs, and which of them are decided wrongly."""
    front, regions, goal, _, apart, values = enumerated(seed, epsilon)
    need = int(np.quantile(apart, share)) + 1 if share else int(apart.min())
    sums = FirstSums.of(front, regions)
    assert sums is not None
    found = Walk(sums, front, regions, goal, need, np.random.default_rng(seed))
    (leaf,) = front.leaves
    return found, np.broadcast_to(values[leaf], (len(apart), sums.matrix.shape[1])), apart


def steps_of(found, inputs):
    """Above the lowest, of the sums that move."""
    sums = found.sums
    return np.array([(sums.steps(sums.at(x)) - found.lowest)[found.moving] for x in inputs.astype(float)])


def rounds(limit):
    """An `alive` that is true so many times."""
    left = iter(range(limit))
    return lambda: next(left, None) is not None


def test_steps_tell_differences_of_outputs():
    for seed in range(6):
        found, inputs, apart = walk(seed, 0.05)
        sums = found.sums
        at = np.array([found._begin(sums.points(x[None]))[0] for x in inputs])
        assert (found.differences(at) == apart).all()
        for x in inputs[::7].astype(float):
            first, last = sums.ends(sums.steps(sums.at(x)))
            assert (first <= sums.at(x)).all() and (sums.at(x) <= last).all()
            low, high = sums.reach()
            assert (low <= sums.at(x)).all() and (sums.at(x) <= high).all()


def test_it_finds_inputs_decided_wrongly_and_no_others():
    found_wrong = 0
    for seed in range(12):
        found, inputs, apart = walk(seed, 0.02)
        wrong, shown = {tuple(x) for x in inputs[apart < found.need]}, []

        def show(points, wrong=wrong, shown=shown):
            (leaf,) = points.values()
            shown.append(any(tuple(x) in wrong for x in leaf))
            return shown[-1]

        middle = found.sums.points((found.sums.low + found.sums.high)[None] // 2)
        answer = found.found(lambda start=middle: start, rounds(60), show)
        assert answer == any(shown)
        found_wrong += answer
    assert found_wrong >= 8, found_wrong


def test_nothing_is_shown_where_nothing_is_wrong():
    for seed in range(6):
        found, _, _ = walk(seed, 0)
        start = found.sums.points(found.sums.low[None])
        assert not found.found(lambda start=start: start, rounds(40), lambda points: pytest.fail("shown"))


def test_what_is_learnt_rules_out_no_input(monkeypatch):
    """Impossible programs teach inequalities; the steps of every input fulfil them."""
    monkeypatch.setattr("hw.certify.walk._INSIDE", 0.0)  # else sums near the ends of their steps are left out
    learnt = ruled_out = 0
    for seed in range(8):
        found, inputs, _ = walk(seed, 0)
        found.found(lambda found=found: found.sums.points(found.sums.low[None]), rounds(40), lambda points: False)
        of_inputs = steps_of(found, inputs)
        assert found.programs.open(of_inputs).all()
        rng = np.random.default_rng(seed)
        anywhere = rng.integers(0, found.most + 1, (500, len(found.most)))
        possible = {tuple(steps) for steps in of_inputs}
        open_now = found.programs.open(anywhere)
        ruled_out += (~open_now).sum()
        assert not any(tuple(steps) in possible for steps in anywhere[~open_now])
        learnt += len(found.programs.reach)
        for steps in anywhere[:20]:  # an input that a program finds has the steps that were asked for
            if (x := found.programs.inputs(steps)) is not None:
                ends = found.sums.ends(found.lowest + _placed(found, steps))
                sums = found.sums.matrix @ x + found.sums.bias
                assert (sums[found.moving] >= ends[0][found.moving] - 1e-6).all()
                assert (sums[found.moving] <= ends[1][found.moving] + 1e-6).all()
    assert learnt > 20 and ruled_out > 500, (learnt, ruled_out)


def _placed(found, steps):
    above = np.zeros(len(found.lowest), np.int64)
    above[found.moving] = steps
    return above


def test_where_steps_do_not_decide_everything_there_is_none():
    front, regions, goal, _, _, _ = enumerated(0)
    (leaf,) = front.leaves
    rng = np.random.default_rng(0)
    size = regions.leaves[leaf].low.shape[1]
    assert Walk.of(front, regions, goal, 0, rng) is None  # more sums than inputs
    grouped = replace(front, groups={leaf: ()})
    direct = replace(goal, coefficients={**goal.coefficients, leaf: np.ones((1, size), np.int64)})
    for net, aim in ((grouped, goal), (front, direct)):
        assert Walk.of(net, regions, aim, 0, rng) is None
    assert FirstSums.of(replace(front, stages=(), matrices={}), regions) is None


def test_verdicts_with_it_equal_enumeration(monkeypatch):
    """Gradients find nothing here, so that walks have to."""
    monkeypatch.setattr("hw.certify.question.Question.attack", lambda *told: None)
    monkeypatch.setattr("hw.certify.work.joined", lambda *told: None)
    broken = 0
    for seed in range(8):
        simulator, x, y = subject(seed, hidden=(3, 4))
        ball = Ball(GRID, x, "linf", 3)
        found = Certifier(simulator).certify(ball, y, Effort(0, complete=True, timeout=5.0, enumerate_up_to=0))
        assert_agrees(found, truth(simulator, ball, y))
        assert found.decided.all()
        broken += int((found.methods == "search")[found.broken].sum())
    assert broken >= 5, broken
