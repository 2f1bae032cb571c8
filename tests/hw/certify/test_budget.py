"""L1, L2 and L0 balls: what changes add up to bounds the first sums; never wider than the box, no input missed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify import Certifier, Effort
from hw.certify.budget import Budget
from hw.certify.interval import Interval
from hw.certify.stages import stages_of
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Input, Linear, Map, Network, Value, Window
from hw.simulate.bitsim.recipes import Cast, Clamp, recipe
from qmodels.attacks.ball import Ball
from qmodels.formats import FixedPoint, Overflow
from qmodels.grid import InputGrid
from tests.hw.certify.test_certifier import GRID, SUMS, every_input, network, subject

pytestmark = pytest.mark.gxx
RADII = {"l1": st.integers(0, 9).map(float), "l2": st.floats(0, 6), "l0": st.integers(0, 4).map(float)}


@st.composite
def balls(draw, shape, count=3):
    norm = draw(st.sampled_from(sorted(RADII)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    frozen = draw(st.sampled_from([None, rng.random(shape) < 0.3]))
    grid = InputGrid(GRID.format, upper=int(rng.integers(9, 16)), frozen=frozen)
    clean = GRID.random(count, shape, rng)  # some outside the grid's bounds
    return Ball(grid, clean, norm, draw(RADII[norm]))


def convolution(seed):
    """Edges that see beyond the image, two channels in, three out."""
    rng = np.random.default_rng(seed)
    weight, target = FixedPoint(4, 2), FixedPoint(3, 1, False, overflow=Overflow.SAT)
    x = Value(0, "x", (3, 4, 2), FixedPoint(7, 2))
    wide, out = Value(1, "conv", (3, 4, 3), SUMS), Value(2, "relu", (3, 4, 3), target)
    window = Window(3, 3, 1, 1, 1, 1)
    weights = rng.integers(-8, 8, (3, 3, 3, 2))
    sums = recipe(Cast(SUMS, SUMS, "conv"))
    steps = recipe(Clamp(low=0), Cast(SUMS, target, "relu"))
    ops = (Input(x, 0), Linear(x, wide, window, weights, weight, rng.integers(-60, 60, 3) << 4, SUMS, sums, "conv"))
    return Network((*ops, Map(wide, out, steps)), (x,), (out,), {"relu": out})


def first_sums(network, ball, budget):
    """Bounds of the first layer's sums, and a function from codes to the sums."""
    low, high = (end.reshape(len(ball), -1).astype(np.int64) for end in ball.box)
    stage = stages_of(fuse(network), Interval(low, high), ball.grid.format, None, budget).stages[0]
    ((_, matrix),) = stage.parts
    scale = 1 << (network.inputs[0].format.fraction - ball.grid.format.fraction)
    return (
        stage.reach,
        lambda codes: (matrix @ (codes.reshape(len(codes), -1).astype(np.int64) * scale).T).T + stage.bias,
    )


def narrowed_sums(network, ball):
    """`first_sums` with the ball's budget: never wider than the box's."""
    bounds, sums = first_sums(network, ball, Budget.of(ball))
    box, _ = first_sums(network, ball, None)
    assert (bounds.low >= box.low).all()
    assert (bounds.high <= box.high).all()
    return bounds, sums


@given(balls((4,)), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_sums_of_all_inputs_in_a_ball_lie_within_bounds_that_l1_and_l0_attain(ball, seed):
    bounds, sums = narrowed_sums(network(seed), ball)
    for row in range(len(ball)):
        one = ball.take(np.array([row]))
        points = every_input(tuple(end[0] for end in one.box))
        inside = one.take(np.zeros(len(points), np.int64)).contains(points)
        found = sums(points[inside])
        assert (bounds.low[row] <= found.min(axis=0)).all()
        assert (found.max(axis=0) <= bounds.high[row]).all()
        if ball.norm != "l2":
            np.testing.assert_array_equal(bounds.low[row], found.min(axis=0))
            np.testing.assert_array_equal(bounds.high[row], found.max(axis=0))


@given(balls((3, 4, 2)), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_sums_of_convolutions_lie_within_bounds(ball, seed):
    bounds, sums = narrowed_sums(convolution(seed), ball)
    rng = np.random.default_rng(seed)
    for _ in range(50):
        far = ball.clean + rng.normal(size=ball.clean.shape) * rng.choice([1, 4, 20])
        found = sums(ball.project(far))
        assert (bounds.low <= found).all()
        assert (found <= bounds.high).all()


def test_a_budget_is_closer_than_the_box():
    ball = Ball(GRID, GRID.random(5, (4,), np.random.default_rng(0)), "l2", 4.0)
    (bounds, _), (box, _) = (first_sums(network(1), ball, budget) for budget in (Budget.of(ball), None))
    assert (bounds.high - bounds.low).sum() < 0.8 * (box.high - box.low).sum()
    assert Budget.of(Ball(GRID, ball.clean, "linf", 2.0)) is None


@given(st.integers(0, 10_000), st.sampled_from(sorted(RADII)), st.integers(1, 4))
@settings(max_examples=6, deadline=None)
def test_verdicts_in_other_balls_equal_trying_every_input(seed, norm, radius):
    simulator, x, y = subject(seed, hidden=(6, 4))
    radius = min(radius, 2) if norm == "l0" else radius
    ball = Ball(GRID, x, norm, float(radius))
    right = []
    for row in range(len(ball)):
        one = ball.take(np.array([row]))
        points = every_input(tuple(end[0] for end in one.box))
        inside = one.take(np.zeros(len(points), np.int64)).contains(points)
        right.append(bool((simulator.logits(points[inside]).argmax(axis=1) == y[row]).all()))
    for effort in (Effort(steps=5, attack_steps=2), Effort(steps=0, complete=True, attack_steps=2)):
        found = Certifier(simulator).certify(ball, y, effort)
        assert not (found.certified & ~np.array(right)).any()
        assert not (found.broken & right).any()
        assert ball.contains(found.examples).all()
    np.testing.assert_array_equal(found.certified, right)
