"""Filters stay on the grid and are the same in an attacker's graph; the coarser grid is a hardware type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmodels.defences import BitDepth, Chain, Median
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.runtime import runtime

GRIDS = (
    IMAGE_GRID,
    InputGrid(FixedPoint(9, 3)),
    InputGrid(FixedPoint(6, -1)),
    InputGrid(FixedPoint(12, 4, signed=False)),
)


def images(seed=0, shape=(3, 5, 6, 2)):
    return IMAGE_GRID.random(shape[0], shape[1:], np.random.default_rng(seed))


def ap_fixed(raw, fine, coarse):
    """What assigning to an ap_[u]fixed<..., RND, SAT> does, in Python's own integers (UG1399)."""
    dropped = fine.fraction - coarse.fraction
    rounded = (int(raw) + (1 << dropped >> 1)) >> dropped
    return min(max(rounded, coarse.raw_min), coarse.raw_max) << dropped


@given(st.sampled_from(GRIDS), st.integers(1, 13), st.integers(0, 100))
def test_fewer_bits_are_exactly_a_coarser_input_type(grid, bits, seed):
    squeeze, x = BitDepth(grid, bits), grid.random(2, (7,), np.random.default_rng(seed))
    coarse = squeeze.hardware_type
    assert coarse.width == min(bits, grid.format.width) and coarse.integer == grid.format.integer
    wanted = [[ap_fixed(raw, grid.format, coarse) for raw in row] for row in x]
    found = squeeze.codes(x)
    assert found.dtype == x.dtype and squeeze.place == "hardware"
    np.testing.assert_array_equal(found, wanted)
    coarse.to_raw(grid.to_values(found))  # every value is one of the type


@pytest.mark.parametrize("window", [2, 3, 4, 5])
def test_a_median_is_one_of_its_neighbours(window):
    x = images()
    found = Median(window).codes(x)
    wide = np.pad(x, ((0, 0), (window // 2, (window - 1) // 2), (window // 2, (window - 1) // 2), (0, 0)), "symmetric")
    block = np.sort(wide[1, 2 : 2 + window, 3 : 3 + window, 1].ravel())
    assert found[1, 2, 3, 1] == block[window * window // 2]
    assert Median(window).place == "host"


@settings(max_examples=15)
@given(st.integers(0, 50), st.integers(1, 8), st.integers(2, 5))
def test_the_attacker_meets_the_filter_itself(seed, bits, window):
    x, tf = images(seed), runtime().tf
    for one in (BitDepth(IMAGE_GRID, bits), Median(window), Chain((BitDepth(IMAGE_GRID, bits), Median(window)))):
        np.testing.assert_array_equal(one.tensors(tf.constant(x, tf.float32)).numpy(), one.codes(x))


def gradient(one, x):
    tf = runtime().tf
    points = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(points)
        total = tf.reduce_sum(one.tensors(points))
    return tape.gradient(total, points).numpy()


def test_backward_rounding_is_the_identity_and_a_median_its_pixel():
    x = np.random.default_rng(1).permutation(60).astype(np.uint8).reshape(1, 6, 10, 1) * 4  # no two alike
    assert (gradient(BitDepth(IMAGE_GRID, 3), x) == 1).all()
    chosen = gradient(Median(3), x)
    values, counts = np.unique(Median(3).codes(x), return_counts=True)
    assert chosen.sum() == x.size  # every output passes its gradient to one pixel
    assert {int(v): int(c) for v, c in zip(values, counts, strict=True)} == {
        int(code): int(share) for code, share in zip(x.ravel(), chosen.ravel(), strict=True) if share
    }
