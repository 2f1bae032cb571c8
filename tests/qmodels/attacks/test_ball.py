"""A ball is a ball: every attack, in its norm, at a finite radius, on any grid, stays on the grid and inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.attacks import quick_attack
from hypothesis import given, settings
from hypothesis import strategies as st

from qmodels.attacks import Ball, attack_kinds
from qmodels.attacks.ball import Norm
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.runtime import runtime, set_seed
from qmodels.victims import KerasVictim

SHAPE = (6, 2)
NORMS: list[Norm] = ["linf", "l2", "l1", "l0"]


def random_grid(rng: np.random.Generator, fmt: FixedPoint) -> InputGrid:
    """Bounds for each feature, some features frozen."""
    ends = np.sort(rng.integers(fmt.raw_min, fmt.raw_max + 1, (2, *SHAPE)), axis=0)
    return InputGrid(fmt, ends[0], ends[1], rng.random(SHAPE) < 0.25)


@settings(max_examples=200)
@given(
    st.sampled_from(NORMS), st.floats(0, 400), st.integers(0, 2**20), st.floats(1e-2, 1e4),
    st.builds(FixedPoint, st.integers(3, 20), st.integers(-2, 8), st.booleans()),
)  # fmt: skip
def test_projection_ends_in_the_ball(norm: Norm, epsilon: float, seed: int, spread: float, fmt: FixedPoint) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng, fmt)
    ball = Ball(grid, grid.random(5, SHAPE, rng), norm, epsilon)
    wild = ball.clean + rng.normal(0, spread, ball.clean.shape)
    wild[rng.random(wild.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    codes = ball.project(wild)
    check(ball, codes)
    np.testing.assert_array_equal(ball.project(codes), codes)  # what is inside stays
    check(ball, ball.project(ball.random(rng)))


def check(ball: Ball, codes: np.ndarray) -> None:
    """On the grid, within the bounds, in the ball, frozen features as they were; computed apart from `Ball`."""
    grid, change = ball.grid, np.abs(codes.astype(np.int64) - ball.clean).reshape(len(codes), -1)
    assert codes.dtype == grid.dtype
    assert (codes >= grid.lower).all() and (codes <= grid.upper).all()
    assert grid.frozen is None or (codes == ball.clean)[:, grid.frozen].all()
    if ball.norm == "linf":
        assert (change.reshape(codes.shape) <= np.asarray(ball.epsilon)).all()
    else:
        lengths = {"l2": np.sqrt((change**2).sum(1)), "l1": change.sum(1), "l0": (change > 0).sum(1)}
        assert lengths[ball.norm].max() <= ball.epsilon
    assert ball.contains(codes).all()


def test_the_l1_and_the_l0_ball_are_filled() -> None:
    """A far point comes back with the whole radius spent, on the features that wanted to move most."""
    clean = np.full((1, 4), 100, np.uint8)
    wanted = np.array([[110.0, 104.0, 99.0, 100.0]])
    np.testing.assert_array_equal(Ball(IMAGE_GRID, clean, "l1", 10).project(wanted), [[108, 102, 100, 100]])
    np.testing.assert_array_equal(Ball(IMAGE_GRID, clean, "l0", 2).project(wanted), [[110, 104, 100, 100]])
    np.testing.assert_array_equal(Ball(IMAGE_GRID, clean, "l1", 15).project(wanted), wanted)


def test_points_outside_are_not_contained() -> None:
    clean = np.full((1, 4), 100, np.uint8)
    for norm, far in (("linf", [103, 100, 100, 100]), ("l2", [102, 102, 100, 100]), ("l0", [101, 101, 101, 100])):
        assert not Ball(IMAGE_GRID, clean, norm, 2).contains(np.array([far], np.uint8)).any()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("norm", "epsilon", "message"),
    [("l2", np.ones(4), "needs the L-infinity norm"), ("linf", -1.0, "0 or more"), ("l1", float("nan"), "0 or more")],
)
def test_a_radius_that_cannot_be_is_refused(norm: Norm, epsilon: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Ball(IMAGE_GRID, np.zeros((1, 4), np.uint8), norm, epsilon)


@pytest.fixture(scope="module", params=["ufixed<8,0>", "fixed<12,5>"])
def bounded(request: pytest.FixtureRequest) -> KerasVictim:
    """A small classifier of sequences (6, 2) on a bounded grid with frozen features."""
    set_seed(1)
    layers = runtime().keras.layers
    x = inputs = layers.Input(SHAPE)
    x = layers.Dense(3)(layers.Dense(8, activation="relu")(layers.Flatten()(x)))
    grid = random_grid(np.random.default_rng(5), FixedPoint.parse(request.param))
    return KerasVictim(runtime().keras.Model(inputs, x), "float", grid)


@pytest.mark.parametrize("kind", attack_kinds())
@settings(max_examples=4)
@given(seed=st.integers(0, 2**20), share=st.floats(0, 1), each=st.booleans())
def test_every_attack_stays_in_its_ball(kind: str, bounded: KerasVictim, seed: int, share: float, each: bool) -> None:
    members = [quick_attack("apgd-ce"), quick_attack("square")]
    attack = quick_attack(kind, **({"attacks": members} if kind == "worst-case" else {}))
    rng, grid = np.random.default_rng(seed), bounded.grid
    widest = {"linf": 60.0, "l2": 120.0, "l1": 200.0, "l0": 8.0}[attack.norm]
    epsilon: Any = round(widest * share)
    if each and attack.norm == "linf":
        epsilon = rng.integers(0, epsilon + 1, SHAPE)
    x, y = grid.random(4, SHAPE, rng), rng.integers(0, 3, 4)
    result = attack(bounded, x, y, epsilon_lsb=epsilon, seed=seed)
    check(Ball(grid, x, attack.norm, epsilon), result.x)
    np.testing.assert_array_equal(result.success, bounded.logits(result.x).argmax(axis=1) != y)
