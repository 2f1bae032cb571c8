"""Where a wrong decision is possible: no input that is decided wrongly is ever left out, and much else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.certify.assume import assumed
from hw.certify.closer import closer, root
from hw.certify.dual import Net, Objective, Regions
from hw.certify.fixing import fixed
from hw.certify.interval import Interval
from hw.certify.nodes import exact_bound, narrowed
from hw.certify.stages import Largest, stages_of
from hw.simulate.bitsim.fuse import fuse
from qmodels.attacks.ball import Ball
from tests.hw.certify.test_certifier import GRID, every_input, subject

pytestmark = pytest.mark.gxx


def asked(seed, epsilon=2, **more):
    """Stages in front of the last one for one ball, a difference of outputs, and all sums and differences in it."""
    return enumerated(seed, epsilon, **more)[:-1]


def enumerated(seed, epsilon=2, **more):
    """The same, and all values."""
    simulator, x, _ = subject(seed, hidden=(6, 4), **more)
    low, high = (end.astype(np.int64) for end in Ball(GRID, x[:1], "linf", epsilon).box)
    stages = stages_of(fuse(simulator.network), Interval(low, high), GRID.format)
    net, last = Net.of(stages), stages.last
    front = net.upto(last.out)
    goal = Objective.of(net, last, np.array([[1, -1, 0]]))
    (leaf,) = front.leaves
    box = stages.leaves[leaf]
    points = every_input((low[0], high[0])).astype(np.int64)
    values = {leaf: box.low + (points - low) * ((box.high - box.low) // np.maximum(high - low, 1))}
    sums = {}
    for stage in front.stages:
        if isinstance(stage, Largest):
            sums[stage.out] = values[stage.source][:, stage.members].max(axis=1)
            values[stage.out] = sums[stage.out]
            continue
        total = stage.bias + sum(matrix.forward(values[index]) for index, matrix in front.matrices[stage.out])
        sums[stage.out], values[stage.out] = total, total if stage.stairs is None else stage.stairs(total)
    apart = goal.constant[0] + sum(values[index] @ weights[0] for index, weights in goal.coefficients.items())
    return front, Regions.of(stages, front), goal, sums, apart, values


def holds(regions, sums, rows):
    """Whether the sums of some inputs lie in the one row of a region."""
    return all(
        ((part[rows] >= regions.reach[out].low[0]) & (part[rows] <= regions.reach[out].high[0])).all()
        for out, part in sums.items()
    )


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.2]), st.booleans(), st.sampled_from([0.0, 0.3]))
@settings(max_examples=10, deadline=None)
def test_inputs_decided_wrongly_are_kept(seed, share, pool, noise):
    front, regions, goal, sums, apart = asked(seed, pool=pool)
    assert holds(regions, sums, np.arange(len(apart)))
    need = np.array([int(np.quantile(apart, share)) + 1])
    wrong = apart < need[0]
    found, shown = root(front, regions, goal, need, 10)
    assert not shown[0]
    rng = np.random.default_rng(seed)
    lam = {out: part * (1 + noise * rng.normal(size=part.shape)) for out, part in found.multipliers.items()}
    exact = exact_bound(front, regions, goal, lam)
    parts = [closer(front, regions, goal, need, found, 10).remains()]
    parts += [fixed(front, regions, exact, need)] if exact is not None else []
    closed, empty = assumed(front, parts[0], goal, need, lam, 10)
    assert not empty[0]
    for part in (*parts, closed):
        assert holds(part, sums, wrong)
        assert holds(narrowed(front, part)[0], sums, wrong)


def test_much_is_left_out():
    """Where few inputs are decided wrongly, the sums of most networks are bounded closer."""
    closer_than_all = 0
    for seed in range(20):
        front, regions, goal, _, apart = asked(seed)
        for need in (int(apart.min()) + 1, int(apart.min())):
            found, shown = root(front, regions, goal, np.array([need]), 20)
            if shown[0]:
                continue
            part, empty = assumed(front, regions, goal, np.array([need]), found.multipliers, 20)
            widths = [(p.reach[out].high - p.reach[out].low).sum() for p in (part, regions) for out in p.reach]
            closer_than_all += sum(widths[: len(widths) // 2]) < sum(widths[len(widths) // 2 :])
            assert need == int(apart.min()) or not empty[0]
    assert closer_than_all >= 10
