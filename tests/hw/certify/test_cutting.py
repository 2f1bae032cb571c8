"""Branch and cut: inequalities that every input decided wrongly fulfils, and proofs that there is no such input."""

from __future__ import annotations

from dataclasses import replace

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
from hw.certify.rows import rows_of
from qmodels.attacks.ball import Ball
from tests.hw.certify.test_assume import enumerated
from tests.hw.certify.test_certifier import GRID, subject, truth

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
        for neuron, (low, high) in enumerate(zip(first, last, strict=True)):
            parts.append(sums[stage.out][:, neuron, None] >= stage.stairs.starts[low + 1 : high + 1])
    return rows, np.concatenate(parts, axis=1).astype(np.int64), apart < need


def fulfilled(matrix, right, points):
    return (points @ matrix.T <= right).all(axis=1)


@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.3]))
@settings(max_examples=15)
def test_exactly_the_inputs_decided_wrongly_fulfil_the_rows(seed, share):
    rows, points, wrong = question(seed, share)
    np.testing.assert_array_equal(fulfilled(rows.matrix, rows.right, points), wrong)
    assert ((points >= rows.low) & (points <= rows.high)).all()


@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.3]))
@settings(max_examples=25)
def test_cuts_and_fixed_columns_keep_every_input_decided_wrongly(seed, share):
    rows, points, wrong = question(seed, share)
    rng = np.random.default_rng(seed)
    for turn in range(4):  # from several corners of the relaxation
        cost = rows.cost if turn == 0 else rng.integers(-9, 10, len(rows.cost))
        found = Relaxation(replace(rows, cost=cost, most=rows.most if turn == 0 else int((points[wrong] @ cost).max())))
        found.solve(rows.low, rows.high)
        for _ in range(6):
            assert found.done and not found.empty
            low, high = found.fixed(rows.low, rows.high)
            assert ((points[wrong] >= low) & (points[wrong] <= high)).all()
            cuts = rounding_cuts(found, rows.low, rows.high, 20, 10)
            if cuts is None:
                break
            matrix, right = cuts
            assert fulfilled(matrix, right, points[wrong]).all()
            assert (matrix @ found.point > right).all()
            found.forget()
            found.add(matrix, right)
            found.solve(rows.low, rows.high)


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_no_weights_refute_what_is_possible(seed):
    """Whatever HiGHS says is only a hint: with weights of our own, large and small, nothing wrong is concluded."""
    rows, points, wrong = question(seed, 0.05)
    found, rng = Relaxation(rows), np.random.default_rng(seed)
    found.solve(rows.low, rows.high)
    for size in (1e-12, 1.0, 1e12):

        class Liar:
            def getDualRay(self, size=size):
                return None, True, size * rng.normal(size=len(rows.right))

            def getSolution(self, size=size):
                return type("Solution", (), {"row_dual": size * rng.normal(size=len(rows.right))})

        found.highs = Liar()
        assert not found.impossible(rows.low, rows.high)
        low, high = found.fixed(rows.low, rows.high)
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
        halves = cutting._halves
        count = []
        cutting._halves = lambda *told, count=count, halves=halves: count.append(1) or halves(*told)
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
    cut = Question.cut
    monkeypatch.setattr(Question, "cut", lambda *told: asked.append(cut(*told)) or asked[-1])
    for seed in range(12):
        simulator, x, y = subject(seed, hidden=(6, 4))
        ball = Ball(GRID, x, "linf", 3)
        found = Certifier(simulator).certify(ball, y, Effort(1, complete=True, timeout=5.0, enumerate_up_to=0))
        right = truth(simulator, ball, y)
        assert not (found.certified & ~right).any() and not (found.broken & right).any()
        assert found.decided.all()
    assert asked.count(True) >= 3, asked


def test_what_is_no_program_is_left_alone():
    front, regions, goal, _, apart, _ = enumerated(0)
    grouped = replace(front, groups={front.leaves[0]: ()})
    assert rows_of(grouped, regions, goal, int(apart.min())) is None
    huge = {i: Interval(box.low - (1 << 60), box.high) for i, box in regions.leaves.items()}
    assert rows_of(front, replace(regions, leaves=huge), goal, int(apart.min())) is None
