"""What neurons of one window can be together: no combination that occurs is missed, and sums stay within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify import Certifier, Effort, branch, joint
from hw.certify.closer import closer, root
from hw.certify.dual import Net, Objective, Regions
from hw.certify.interval import Interval
from hw.certify.nodes import exact_bound
from hw.certify.stages import stages_of
from hw.certify.tighten import tightened
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Alias, Input, Linear, Map, Network, Pool, Value, Window
from hw.simulate.bitsim.recipes import Cast, Clamp, Recipe, recipe
from qmodels.attacks.ball import Ball
from qmodels.formats import FixedPoint, Overflow
from qmodels.grid import InputGrid
from tests.hw.certify.test_certifier import GRID, SUMS, every_input, subject, truth

pytestmark = pytest.mark.gxx
WEIGHT, STEPS = FixedPoint(4, 2), FixedPoint(3, 1, False, overflow=Overflow.SAT)
SHAPE, MOVING = (4, 4, 1), 6


def convolutional(seed):
    """A convolution that sees beyond the edge, largest of two by two, two dense layers."""
    rng = np.random.default_rng(seed)
    x, wide, maps = (
        Value(0, "x", SHAPE, FixedPoint(5, 1)),
        Value(1, "c", (4, 4, 3), SUMS),
        Value(2, "q", (4, 4, 3), STEPS),
    )
    best, flat = Value(3, "pool", (2, 2, 3), STEPS), Value(4, "flat", (12,), STEPS)
    none, sums = Recipe(), recipe(Cast(SUMS, SUMS, "s"))
    climb = recipe(Clamp(low=0), Cast(SUMS, STEPS, "q"))
    ops = [
        Input(x, 0),
        Linear(x, wide, Window(3, 3, 1, 1, 1, 1), *_weights(rng, 3, 3, 3, 1), SUMS, sums, "c"),
        Map(wide, maps, climb),
        Pool(maps, best, Window(2, 2, 2, 2), True, False, 0, none, none, (), none),
        Alias(best, flat),
    ]
    hidden, steps = Value(5, "fc", (4,), SUMS), Value(6, "r", (4,), STEPS)
    ops += [Linear(flat, hidden, Window(), *_weights(rng, 4, 1, 1, 12), SUMS, sums, "fc"), Map(hidden, steps, climb)]
    logits = Value(7, "logits", (3,), SUMS)
    ops.append(Linear(steps, logits, Window(), *_weights(rng, 3, 1, 1, 4), SUMS, sums, "logits"))
    return Network(tuple(ops), (x,), (logits,), {"pool": best, "logits": logits})


def _weights(rng, *shape):
    return rng.integers(-8, 8, shape), WEIGHT, rng.integers(-40, 60, shape[0]) << 4


def few_move(seed, radius):
    """Balls around inputs most of whose features are frozen."""
    rng = np.random.default_rng(seed)
    frozen = np.ones(16, np.bool_)
    frozen[rng.choice(16, MOVING, replace=False)] = False
    grid = InputGrid(GRID.format, frozen=frozen.reshape(SHAPE))
    return Ball(grid, grid.random(1, SHAPE, rng), "linf", float(radius))


def asked(seed, radius):
    """Network, all inputs of a ball, the stages in front of the last one for it, and how far the first class leads."""
    network, ball = convolutional(seed), few_move(seed, radius)
    low, high = (end.reshape(1, -1).astype(np.int64) for end in ball.box)
    points = every_input((low[0], high[0])).reshape(-1, *SHAPE)
    stages = stages_of(fuse(network), Interval(low, high), GRID.format)
    net = Net.of(stages)
    front = net.upto(stages.last.out)
    apart = np.array([[1, -1, 0], [1, 0, -1]])
    return network, points, front, Regions.of(stages, front), Objective.of(net, stages.last, apart)


def traced(network, points):
    """Raw pooled values (inputs, elements)."""
    found = BitSim(network).trace([points * 2.0**-GRID.format.fraction], threads=1)
    return np.rint(np.ldexp(found["pool"], STEPS.fraction)).reshape(len(points), -1).astype(np.int64)


@given(st.integers(0, 10_000), st.integers(1, 2), st.sampled_from([0, 3, 3000]))
@settings(max_examples=25, deadline=None)
def test_every_combination_that_occurs_is_among_a_groups(seed, radius, parts):
    network, points, front, regions, goal = asked(seed, radius)
    true = traced(network, points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "_PARTS", parts)
        found = joint.joined(front, regions, goal)
    if found is None:
        return
    ((value, many),) = found[0].groups.items()
    box = found[1].leaves[value]
    assert (box.low <= true).all()
    assert (true <= box.high).all()
    for group in many:
        occur = {tuple(row) for row in true[:, group.elements]}
        known = {tuple(row) for row in group.combinations}
        assert occur <= known
        if parts > 3 and radius == 1:
            assert occur == known


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_sums_lie_within_bounds_and_bounds_are_closer(seed):
    network, points, front, regions, goal = asked(seed, 1)
    found = joint.joined(front, regions, goal)
    if found is None:
        return
    net, narrow = found
    ((_, matrix),) = net.matrices[net.stages[0].out]
    reach, before = narrow.reach[net.stages[0].out], regions.reach[net.stages[0].out]
    sums = traced(network, points) @ matrix.sparse.toarray().T + net.stages[0].bias
    assert (before.low <= reach.low).all()
    assert (reach.high <= before.high).all()
    for bounds in (narrow, tightened(net, narrow, 2)):
        assert (bounds.reach[net.stages[0].out].low <= sums.min(axis=0)).all()
        assert (sums.max(axis=0) <= bounds.reach[net.stages[0].out].high).all()


@given(st.integers(0, 10_000), st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_bounds_from_groups_hold_for_every_input(seed, radius):
    network, points, front, regions, goal = asked(seed, radius)
    found = joint.joined(front, regions, goal)
    if found is None:
        return
    net, narrow = found
    need = np.full(len(goal.constant), 10**9)
    rows = narrow.take(np.zeros(len(need), np.int64))
    start, _ = root(net, rows, goal, need, 20)
    bent = closer(net, rows, goal, need, start, 20)
    logits = BitSim(network).predict([points * 2.0**-GRID.format.fraction], 1)
    least = np.ldexp(logits[:, :1] - logits[:, 1:], SUMS.fraction).min(axis=0)
    for promised in (start.value, bent.value):
        assert (promised <= least + 1e-6).all()
    exact = exact_bound(net, rows, goal, start.multipliers)
    assert (exact.bound.value <= least * exact.scale).all()


def test_groups_are_closer_than_intervals():
    gained = 0
    for seed in range(8):
        _, _, front, regions, goal = asked(seed, 1)
        found = joint.joined(front, regions, goal)
        if found is not None:
            out = found[0].stages[0].out
            after, before = found[1].reach[out], regions.reach[out]
            gained += bool((after.high - after.low < before.high - before.low).any())
    assert gained >= 4


@given(st.integers(0, 10_000), st.integers(1, 2))
@settings(max_examples=8, deadline=None)
def test_verdicts_on_convolutions_equal_trying_every_input(seed, radius):
    network, points, *_ = asked(seed, radius)
    ball, simulator = few_move(seed, radius), BitSim(network)
    simulator.threads, simulator.grid = 1, GRID
    y = simulator.logits(ball.clean).argmax(axis=1)
    right = bool((simulator.logits(points).argmax(axis=1) == y[0]).all())
    found = Certifier(simulator).certify(ball, y, Effort(10, complete=True, timeout=0.5, enumerate_up_to=0))
    assert not (found.certified[0] and not right)
    assert not (found.broken[0] and right)


@pytest.mark.parametrize("seed", [6, 10])
def test_what_groups_leave_open_is_asked_without_them(seed):
    """What the groups allow, but no input does: the search ends before its time, and begins again from the inputs."""
    simulator, x, y = subject(seed, hidden=(10, 8))
    ball = Ball(GRID, x, "linf", 3)
    found = Certifier(simulator).certify(ball, y, Effort(1, complete=True, timeout=30.0, enumerate_up_to=0))
    assert found.decided.all()
    np.testing.assert_array_equal(found.certified, truth(simulator, ball, y))


def test_only_rivals_that_are_not_ruled_out_are_told_to_the_programs(monkeypatch):
    monkeypatch.setattr(branch, "_STUCK", 1)
    _, _, front, regions, goal = asked(0, 2)
    goal = goal.take(np.array([0, 0, 1]))
    need = np.array([int(goal.constant.max()) + (1 << 20)] * 2 + [-(1 << 20)])  # two are never proved, one is at once
    regions = regions.take(np.zeros(3, np.int64))
    found, _ = root(front, regions, goal, need, 10)
    told = []

    def stuck(questions, regions, multipliers):
        told.append((questions.tolist(), len(regions), {len(part) for part in multipliers.values()}))
        return np.ones(len(questions), np.bool_)

    none = lambda rows, near: np.zeros(3, np.bool_)  # noqa: E731
    search = branch.Search(front, goal, need, none, lambda: np.ones(3, np.bool_), 10, stuck)
    bound = np.array([2.0, 1.0, 0.0])  # what promises least comes first
    assert search.run(regions, found, bound).all()
    assert told == [([1, 0], 2, {2})]
