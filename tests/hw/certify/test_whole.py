"""Whole inputs from a point between them: inside the box, and their first sums where the point's are."""

from __future__ import annotations

import numpy as np

from hw.certify.first_sums import FirstSums
from hw.certify.whole import _outside, _steps, whole_inputs
from tests.hw.certify.test_assume import enumerated


def test_inputs_reach_the_steps_of_points_between_them():
    rng, reached, rounded = np.random.default_rng(0), 0, 0
    for seed in range(20):
        net, regions, _, _, _, _ = enumerated(seed, epsilon=3)
        (leaf,) = net.leaves
        low, high = (end.astype(float) for end in regions.leaves[leaf])
        inside = rng.integers(low[0], high[0] + 1)  # a point near an input has the steps of one
        near = np.clip(inside + rng.uniform(-0.6, 0.6, inside.shape), low, high)
        found = whole_inputs(net, regions, {leaf: near}, 8, rng)[leaf]
        assert found.shape == (8, low.shape[1]) and found.dtype == np.int64
        assert (found >= low).all() and (found <= high).all()
        sums = FirstSums.of(net, regions)
        assert sums is not None
        matrix, ends = sums.matrix, _steps(sums, regions, near[0])
        apart = [_outside(matrix @ x, *ends).sum() for x in found]
        reached += min(apart) == 0
        rounded += _outside(matrix @ np.clip(np.rint(near[0]), low[0], high[0]), *ends).sum() == 0
    assert reached > rounded and reached >= 12, (reached, rounded)


def test_without_first_sums_inputs_are_only_rounded():
    net, regions, _, _, _, _ = enumerated(0)
    (leaf,) = net.leaves
    box = regions.leaves[leaf]
    bare = type(net)((), {}, net.leaves)
    found = whole_inputs(bare, regions, {leaf: box.low + 0.25}, 4, np.random.default_rng(0))[leaf]
    assert (found[0] == box.low[0]).all() and ((found == box.low) | (found == box.low + 1)).all()
