"""Branch and cut: inequalities that every input decided wrongly fulfils, and proofs that there is no such input."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify import Certifier, Effort
from hw.certify.cutting import Cutting
from hw.certify.interval import Interval
from hw.certify.question import Question
from hw.certify.relaxation import Relaxation
from hw.certify.rounding import rounding_cuts
from hw.certify.rows import FREE, _Runs, rows_of
from hw.certify.staircase import Staircase
from qmodels.attacks.ball import Ball
from tests.hw.certify.test_assume import enumerated
from tests.hw.certify.test_certifier import GRID, assert_agrees, subject, truth

pytestmark = pytest.mark.gxx


def question(seed, share):
    """Rows that the inputs with the smallest differences are to fulfil, all inputs as columns, and which are wrong."""
    front, regions, goal, sums, apart, values = enumerated(seed)
    need = int(np.quantile(apart, share)) + 1 if share else int(apart.min())
    rows = rows_of(front, regions, goal, need)
    assert rows is not None
    (leaf,) = front.leaves
    parts = [np.broadcast_to(values[leaf], (len(apart), rows.leaves[leaf][1]))]
    for stage in front.stages:
        reach = regions.reach[stage.out]
        first, last = stage.stairs.index(reach.low[0]), stage.stairs.index(reach.high[0])
        parts += [(stage.stairs.index(sums[stage.out]) - first)[:, first < last]]
    inputs, passed = parts[0], np.concatenate(parts[1:], axis=1)  # steps that each neuron has passed, over its columns
    for neuron, (begin, end) in enumerate(pairwise(rows.ladders.first)):
        filled = np.concatenate([[0], np.cumsum(rows.high[begin:end])])
        inputs = np.hstack([inputs, np.clip(passed[:, neuron, None] - filled[:-1], 0, rows.high[begin:end])])
    return rows, inputs.astype(np.int64), apart < need


def fulfilled(matrix, least, most, points):
    sums = points @ matrix.T
    return ((sums >= least) & (sums <= most)).all(axis=1)


def known(rows, points):
    """Which points fulfil the rows once all their steps are known."""
    found = []
    for point in points:
        low, high = (np.where(rows.steps, point, end) for end in (rows.low, rows.high))
        found.append(fulfilled(rows.matrix, *rows.ends(low, high), point[None])[0])
    return np.array(found)


@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.3]))
@settings(max_examples=15)
def test_exactly_the_inputs_decided_wrongly_fulfil_the_rows(seed, share):
    rows, points, wrong = question(seed, share)
    before = fulfilled(rows.matrix, rows.least, rows.most, points)
    assert before[wrong].all()
    np.testing.assert_array_equal(known(rows, points[before]), wrong[before])
    assert ((points >= rows.low) & (points <= rows.high)).all()


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), min_size=3, max_size=9),
    st.sampled_from([None, 4, 7]),
    st.sampled_from([0, 1]),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_columns_of_steps_are_the_steps(steps, usual, tie, data):
    """Of any staircase: columns filled in order give its values and, once all are known, exactly its sums."""
    if usual is not None:
        steps = [(usual + (tie if at % 2 else -tie), 1) for at in range(len(steps))]
    widths = [width for width, _ in steps]
    starts = np.concatenate([[0], np.cumsum(widths)])
    stairs = Staircase(starts[:-1], np.cumsum([height for _, height in steps]), int(starts[-1]) - 1)
    low = data.draw(st.integers(0, stairs.last))
    high = data.draw(st.integers(low, stairs.last))
    first, last = stairs.index(np.array([low, high]))
    if first == last:
        return
    runs = _Runs.of(stairs, low, high)
    assert runs.counts.sum() == last - first and len(runs.counts) <= last - first
    for step in range(last - first + 1):
        y = np.clip(step - np.concatenate([[0], np.cumsum(runs.counts)[:-1]]), 0, runs.counts)
        assert stairs.values[first] + y @ runs.values == stairs.values[first + step]
        assert y @ runs.below + runs.least[step] == max(low, stairs.starts[first + step])
        assert y @ runs.above + runs.most[step] == min(high, stairs.ends[first + step])
    for lower, upper in pairwise(runs.counts):
        assert min(lower, upper) == 1  # so that one row keeps the order
    assert usual is None or len(runs.counts) <= 3  # alike but for the ends, and for ties


@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.3]))
@settings(max_examples=25)
def test_cuts_and_fixed_columns_keep_every_input_decided_wrongly(seed, share):
    rows, points, wrong = question(seed, share)
    rng = np.random.default_rng(seed)
    for turn in range(4):  # from several corners of the relaxation
        cost = rows.cost if turn == 0 else rng.integers(-9, 10, len(rows.cost))
        limit = rows.limit if turn == 0 else int((points[wrong] @ cost).max())
        found = Relaxation(replace(rows, cost=cost, limit=limit))
        for _ in range(6):
            solution = found.solve(rows.low, rows.high)
            assert solution is not None and not solution.empty
            low, high = found.fixed(solution, rows.low, rows.high)
            assert ((points[wrong] >= low) & (points[wrong] <= high)).all()
            cuts = rounding_cuts(found, solution, rows.low, rows.high, 20, 10)
            if cuts is None:
                break
            matrix, most = cuts
            none = np.full(len(most), -FREE)
            assert fulfilled(matrix, none, most, points[wrong]).all()
            assert (matrix @ solution.point > most).all()
            found.forget(solution)
            found.add(matrix, none, most)


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_no_weights_refute_what_is_possible(seed):
    """Whatever HiGHS says is only a hint: with weights of our own, large and small, nothing wrong is concluded."""
    rows, points, wrong = question(seed, 0.05)
    found, rng = Relaxation(rows), np.random.default_rng(seed)
    honest = found.solve(rows.low, rows.high)
    for size in (1e-12, 1.0, 1e12):
        lies = replace(honest, empty=True, weights=size * rng.normal(size=len(rows.most)))
        assert not found.impossible(lies, rows.low, rows.high)
        lies = replace(honest, weights=size * rng.normal(size=len(rows.most)))
        low, high = found.fixed(lies, rows.low, rows.high)
        assert ((points[wrong] >= low) & (points[wrong] <= high)).all()


def test_proofs_agree_with_trying_every_input():
    proved = 0
    for seed in range(20):
        for share in (0, 0.01):
            rows, _, wrong = question(seed, share)
            shown = []
            cutting = Cutting(rows, lambda: True, lambda leaves, shown=shown: bool(shown.append(leaves)))
            impossible = cutting.impossible()
            assert not (impossible and wrong.any())
            proved += impossible and not share
    assert proved >= 18, proved


def test_it_branches_where_cuts_do_not_suffice(monkeypatch):
    monkeypatch.setattr("hw.certify.cutting._TURNS", 0)
    parts = 0
    for seed in range(12):
        rows, _, wrong = question(seed, 0)
        assert not wrong.any()
        cutting = Cutting(rows, lambda: True, lambda leaves: False)
        split = cutting._split
        count = []
        cutting._split = lambda *told, count=count, split=split: count.append(1) or split(*told)
        assert cutting.impossible()
        parts += len(count)
    assert parts >= 5, parts


def test_without_time_nothing_is_proved():
    rows, _, _ = question(0, 0)
    assert not Cutting(rows, lambda: False, lambda leaves: False).impossible()


def test_verdicts_with_it_equal_enumeration(monkeypatch):
    """Every question goes to it at once; what is certified is what trying every input says."""
    monkeypatch.setattr("hw.certify.branch._STUCK", 1)
    monkeypatch.setattr("hw.certify.work.joined", lambda *told: None)  # these networks are so small that it would do
    asked = []
    asks = Question.by_programs
    monkeypatch.setattr(Question, "by_programs", lambda *told: asked.append(asks(*told)) or asked[-1])
    for seed in range(12):
        simulator, x, y = subject(seed, hidden=(6, 4))
        ball = Ball(GRID, x, "linf", 3)
        found = Certifier(simulator).certify(ball, y, Effort(1, complete=True, timeout=5.0, enumerate_up_to=0))
        assert_agrees(found, truth(simulator, ball, y))
        assert found.decided.all()
    assert sum(int(proved.sum()) for proved in asked) >= 3, asked


def test_what_is_no_program_is_left_alone():
    front, regions, goal, _, apart, _ = enumerated(0)
    grouped = replace(front, groups={front.leaves[0]: ()})
    assert rows_of(grouped, regions, goal, int(apart.min())) is None
    huge = {i: Interval(box.low - (1 << 60), box.high) for i, box in regions.leaves.items()}
    assert rows_of(front, replace(regions, leaves=huge), goal, int(apart.min())) is None
