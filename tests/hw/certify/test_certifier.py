"""Verdicts: equal to trying every input where that can be done, and never wrong anywhere else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify import Certifier, Effort, kinked
from hw.certify.closer import reference_of
from hw.certify.doubled import double
from hw.certify.dual import Net, Objective, Regions, evaluate, group_minimum
from hw.certify.interval import Interval
from hw.certify.matrix import TooLarge
from hw.certify.nodes import prove
from hw.certify.patterns import between
from hw.certify.search import chords
from hw.certify.stages import stages_of
from hw.certify.staircase import Staircase
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Alias, Input, Linear, Map, Network, Pool, Value, Window
from hw.simulate.bitsim.recipes import Cast, Clamp, Recipe, recipe
from qmodels.attacks.ball import Ball
from qmodels.attacks.local_search import anneal
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.grid import InputGrid

pytestmark = pytest.mark.gxx
GRID = InputGrid(FixedPoint(4, 0, signed=False))
SUMS = FixedPoint(24, 14)


def network(seed, inputs=4, hidden=(5,), classes=3, output=None, pool=False):
    """Dense layers with saturating quantizers, and one maximum of neighbours if asked for."""
    rng = np.random.default_rng(seed)
    first = Value(0, "x", (inputs,), FixedPoint(5, 1))
    ops, now, count = [Input(first, 0)], first, 1
    traced = {}
    for number, units in enumerate((*hidden, classes)):
        last = number == len(hidden)
        weight = FixedPoint(4, 2)
        target = (
            (output or FixedPoint(24, 14))
            if last
            else FixedPoint(
                int(rng.integers(1, 4)), 1, False, Rounding(rng.choice(["RND_CONV", "TRN", "RND_ZERO"])), Overflow.SAT
            )
        )
        wide, out = Value(count, f"fc{count}", (units,), SUMS), Value(count + 1, f"q{count}", (units,), target)
        weights = rng.integers(-8, 8, (units, 1, 1, now.size))
        bias = rng.integers(-60, 60, units) << 4
        ops.append(
            Linear(now, wide, Window(), weights, weight, bias, SUMS, recipe(Cast(SUMS, SUMS, wide.layer)), wide.layer)
        )
        actions = (Cast(SUMS, target, out.layer),) if last else (Clamp(low=0), Cast(SUMS, target, out.layer))
        ops.append(Map(wide, out, recipe(*actions)))
        count, now = count + 2, out
        if pool and not last and units % 2 == 0:
            image = Value(count, "image", (units, 1), now.format)
            best = Value(count + 1, "pool", (units // 2, 1), now.format)
            flat = Value(count + 2, "flat", (units // 2,), now.format)
            window = Window(1, 2, 1, 2)
            none = Recipe()
            ops += [
                Alias(now, image),
                Pool(image, best, window, True, False, 0, none, none, (), none),
                Alias(best, flat),
            ]
            count, now = count + 3, flat
    traced[now.layer] = now
    return Network(tuple(ops), (first,), (now,), traced)


def every_input(box):
    return np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(*box, strict=True)))), GRID.dtype)


def truth(simulator, ball, y):
    """Whether all inputs of each ball are decided rightly."""
    low, high = ball.box
    found = []
    for a, b, label in zip(low, high, y, strict=True):
        found.append(bool((simulator.logits(every_input((a, b))).argmax(axis=1) == label).all()))
    return np.array(found)


def assert_agrees(found, right):
    """Nothing is certified or broken that trying every input says is not."""
    assert not (found.certified & ~right).any()
    assert not (found.broken & right).any()


def subject(seed, **more):
    simulator = BitSim(network(seed, **more))
    simulator.threads, simulator.grid = 1, GRID
    rng = np.random.default_rng(seed)
    x = GRID.random(12, (4,), rng)
    y = simulator.logits(x).argmax(axis=1).astype(np.int64)
    y[0] = (y[0] + 1) % 3
    return simulator, x, y


@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["one", "two", "pool", "output"]))
@settings(max_examples=12, deadline=None)
def test_verdicts_equal_enumeration(seed, epsilon, kind):
    more = {
        "one": {},
        "two": {"hidden": (6, 4)},
        "pool": {"hidden": (6,), "pool": True},
        "output": {"output": FixedPoint(4, 3, True, Rounding.RND, Overflow.SAT)},
    }[kind]
    simulator, x, y = subject(seed, **more)
    ball = Ball(GRID, x, "linf", epsilon)
    right = truth(simulator, ball, y)
    quick, search = Effort(steps=0, attack_steps=2), Effort(10, complete=True, timeout=0.5, enumerate_up_to=0)
    for effort in (quick, search, Effort(steps=0, complete=True, attack_steps=2)):
        found = Certifier(simulator).certify(ball, y, effort)
        assert_agrees(found, right)
        assert ball.contains(found.examples).all()
        wrong = simulator.logits(found.examples).argmax(axis=1) != y
        assert wrong[found.broken].all()
    assert found.decided.all()


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_the_doubled_network_certifies_what_intervals_do(seed, epsilon):
    simulator, x, y = subject(seed, hidden=(6, 4))
    doubled = double(fuse(simulator.network), GRID, epsilon)
    assert doubled is not None
    ball = Ball(GRID, x, "linf", epsilon)
    fast = doubled.certified(x, y)
    plain = Certifier(simulator)
    plain.doubled = lambda ball: None
    slow = plain.certify(ball, y, Effort(steps=0, attack_steps=2))
    assert not (fast & ~truth(simulator, ball, y)).any()
    assert not (fast & (slow.verdicts != "certified")).any()


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=30, deadline=None)
def test_any_whole_multipliers_give_a_true_bound(seed, data):
    simulator, x, _ = subject(seed, hidden=(6, 4), pool=True)
    low, high = Ball(GRID, x[:1], "linf", 2).box
    stages = stages_of(fuse(simulator.network), Interval(low.astype(np.int64), high.astype(np.int64)), GRID.format)
    net = Net.of(stages)
    last = stages.last
    front = net.upto(last.out)
    rng = np.random.default_rng(seed)
    weights = rng.integers(-3, 4, (1, 3))
    goal = Objective.of(net, last, weights)
    regions = Regions.of(stages, front)
    lam = {
        out: np.rint(value * 8 + rng.normal(size=value.shape) * data.draw(st.sampled_from([0, 1, 30]))).astype(np.int64)
        for out, value in chords(front, regions, goal.floats()).items()
    }
    scaled = Objective({i: c * 8 for i, c in goal.coefficients.items()}, goal.constant * 8)
    bound = evaluate(front, regions, scaled, lam).value[0]
    outputs = simulator.logits(every_input((low[0], high[0]))) * 2**SUMS.fraction
    assert bound <= 8 * (outputs @ weights[0]).min()
    need = np.array([int(np.floor((outputs @ weights[0]).min())) + 1])
    floats = {out: value / 8.0 for out, value in lam.items()}
    assert not prove(front, regions, goal, need, floats)[0]


@given(st.integers(0, 10_000), st.sampled_from([0, 1, 30]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_whole_multipliers_with_a_kink_give_a_true_bound(seed, noise, pool):
    simulator, x, _ = subject(seed, hidden=(6, 4), pool=pool)
    low, high = Ball(GRID, x[:1], "linf", 2).box
    stages = stages_of(fuse(simulator.network), Interval(low.astype(np.int64), high.astype(np.int64)), GRID.format)
    net, last = Net.of(stages), stages.last
    front, rng = net.upto(last.out), np.random.default_rng(seed)
    weights = rng.integers(-3, 4, (1, 3))
    goal = Objective.of(net, last, weights)
    regions = Regions.of(stages, front)
    lam = kinked.twice(chords(front, regions, goal.floats()), front)
    lam = {out: np.rint(v * 8 + noise * rng.normal(size=v.shape)).astype(np.int64) for out, v in lam.items()}
    lam = {out: np.sort(v, axis=1) if kinked.affine(front, out) else v for out, v in lam.items()}
    anywhere = {i: rng.uniform(b.low, b.high + 1) for i, b in regions.leaves.items()}
    steps = {s.out: rng.uniform(*regions.outputs(front, s.out)) for s in front.stages}
    reference = reference_of(front, regions, anywhere, steps)
    scaled = Objective({i: c * 8 for i, c in goal.coefficients.items()}, goal.constant * 8)
    bound = kinked.evaluate(front, regions, scaled, lam, reference).value[0]
    outputs = simulator.logits(every_input((low[0], high[0]))) * 2**SUMS.fraction
    assert bound <= 8 * (outputs @ weights[0]).min()


def test_products_that_int64_does_not_hold_are_no_proof():
    """Wrapped, they would look like small ones: 2**60 * 16 is 0."""
    huge, box = np.full((1, 1), 1 << 60), Interval(np.full((1, 2, 1), 16), np.full((1, 2, 1), 16))
    with pytest.raises(TooLarge):
        group_minimum(huge, np.zeros((1, 2, 1), np.int64), box)
    simulator, x, _ = subject(5, hidden=(6, 4))
    low, high = Ball(GRID, x[:1], "linf", 2).box
    stages = stages_of(fuse(simulator.network), Interval(low.astype(np.int64), high.astype(np.int64)), GRID.format)
    net, last = Net.of(stages), stages.last
    front = net.upto(last.out)
    regions, goal = Regions.of(stages, front), Objective.of(net, last, np.array([[1, -1, 0]]))
    lam = {out: np.rint(v).astype(np.int64) for out, v in chords(front, regions, goal.floats()).items()}
    evaluate(front, regions, goal, lam)
    for out in lam:
        with pytest.raises(TooLarge):
            evaluate(front, regions, goal, lam | {out: np.full_like(lam[out], 1 << 60)})


@given(st.integers(-60, 60), st.integers(0, 90), st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(Rounding))
@settings(max_examples=150, deadline=None)
def test_the_minimum_over_a_staircase_is_the_minimum_over_all_its_numbers(low, length, mu, lam, rounding):
    source, target = FixedPoint(9, 9), FixedPoint(3, 6, False, rounding, Overflow.SAT)
    value = Value(0, "q", (1,), target)
    stairs = Staircase.of(recipe(Clamp(low=0), Cast(source, target)), value, -60, 200)
    ends = np.array([[low]]), np.array([[low + length]])
    found, at = stairs.minimum(np.array([[mu]]), np.array([[lam]]), *ends)
    everything = np.arange(low, low + length + 1)
    assert found[0, 0] == (mu * stairs(everything) - lam * everything).min()
    assert found[0, 0] == mu * stairs(at)[0, 0] - lam * at[0, 0]


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_minimum_over_a_group_is_the_minimum_over_all_its_numbers(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(-3, 4, 3)
    high = low + rng.integers(0, 4, 3)
    mu, lam = int(rng.integers(-5, 6)), rng.integers(-5, 6, 3)
    points = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    found, _, at = group_minimum(
        np.array([[mu]]), lam[None, :, None], Interval(low[None, :, None], high[None, :, None])
    )
    assert found[0, 0] == (mu * points.max(axis=1) - points @ lam).min()
    assert found[0, 0] == mu * at[0].max() - at[0, :, 0] @ lam


@pytest.mark.parametrize(("norm", "radius"), [("linf", 3.0), ("l1", 5.0), ("l2", 3.5), ("l0", 2.0)])
def test_a_local_search_stays_in_its_ball_and_only_gets_better(norm, radius):
    simulator, x, y = subject(3)
    gained = 0
    for row in range(1, len(x)):
        ball = Ball(GRID, x[row : row + 1], norm, radius)

        def margins(points, y=y[row]):
            logits = simulator.logits(points)
            return logits[:, y].astype(float) - logits[:, (y + 1) % 3]

        found = anneal(ball, x[row], margins, lambda: True, np.random.default_rng(0), 5)
        before, after = margins(x[row : row + 1])[0], margins(found[None])[0]
        assert ball.contains(found[None]).all()
        assert after <= before
        gained += after < before
    assert gained


def test_a_box_is_cut_where_a_number_is_not_whole():
    box = Interval(np.zeros((1, 3), np.int64), np.full((1, 3), 4))
    regions = Regions({0: box}, {})
    assert not between(regions, {0: np.array([[1.0, 4.0, 0.0]])})
    lower, upper = between(regions, {0: np.array([[1.0, 2.5, 0.1]])})
    assert lower.leaves[0].high.tolist() == [[4, 2, 4]]
    assert upper.leaves[0].low.tolist() == [[0, 3, 0]]


def test_what_is_no_classifier_is_refused():
    with pytest.raises(UserError, match="25 bits"):
        Certifier(BitSim(network(1, output=FixedPoint(25, 14))))
    with pytest.raises(UserError, match="two classes or more"):
        Certifier(BitSim(network(1, classes=1)))
