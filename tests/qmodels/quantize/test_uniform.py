"""Uniform quantization: on the grid, few values, and never a worse choice than clipping nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmodels.formats import FixedPoint
from qmodels.quantize.uniform import Clip, choose_format, covering_format, snap

FLOATS = st.floats(-1e3, 1e3, allow_subnormal=False)
VALUES = st.lists(FLOATS, min_size=1, max_size=60).map(np.array)
BITS = st.integers(2, 8)
CLIPS: st.SearchStrategy[Clip] = st.sampled_from(["max", "mse"])


@given(VALUES, BITS, CLIPS, st.booleans())
def test_snapped_values_lie_on_a_grid_of_that_many_bits(x: np.ndarray, bits: int, clip: Clip, signed: bool) -> None:
    fmt = choose_format(x, bits, clip, signed)
    snapped = snap(x, fmt)
    fmt.to_raw(snapped)  # raises when one is not representable
    assert (fmt.width, fmt.signed) == (bits, signed)
    assert len(np.unique(snapped)) <= 2**bits


@given(VALUES, BITS, CLIPS, st.booleans())
def test_snapping_twice_changes_nothing(x: np.ndarray, bits: int, clip: Clip, signed: bool) -> None:
    fmt = choose_format(x, bits, clip, signed)
    np.testing.assert_array_equal(snap(snap(x, fmt), fmt), snap(x, fmt))


@given(VALUES, BITS, st.booleans())
def test_mse_is_never_worse_than_clipping_nothing(x: np.ndarray, bits: int, signed: bool) -> None:
    errors = [np.sum((snap(x, choose_format(x, bits, clip, signed)) - x) ** 2) for clip in ("mse", "max")]
    assert errors[0] <= errors[1]


@given(VALUES, BITS)
def test_max_clips_nothing_beyond_half_a_step(x: np.ndarray, bits: int) -> None:
    fmt = covering_format(x, bits)
    assert (np.abs(snap(x, fmt) - x) <= fmt.lsb / 2 * (1 + 1e-9)).all()


@given(VALUES.filter(lambda x: np.abs(x).max() > 1e-3), BITS)
def test_max_is_the_finest_that_covers(x: np.ndarray, bits: int) -> None:
    fmt = covering_format(x, bits)
    finer = fmt._replace(integer=fmt.integer - 1)
    assert np.abs(x).max() > finer.maximum + finer.lsb / 2 * (1 - 1e-9)


@pytest.mark.parametrize("clip", ["max", "mse"])
def test_zeros_have_a_format_too(clip: Clip) -> None:
    fmt = choose_format(np.zeros((3, 3)), 3, clip)
    np.testing.assert_array_equal(snap(np.zeros((3, 3)), fmt), np.zeros((3, 3)))


def test_by_hand() -> None:
    """Three bits, step 1/4: -1 .. 3/4; halfway cases go to the even code."""
    fmt = FixedPoint(3, 1)
    x = np.array([-9.0, -1.0, -0.375, -0.125, 0.125, 0.126, 0.375, 0.75, 9.0])
    np.testing.assert_array_equal(snap(x, fmt), [-1, -1, -0.5, 0, 0, 0.25, 0.5, 0.75, 0.75])


def test_mse_gives_up_an_outlier_for_finer_steps() -> None:
    x = np.append(np.random.default_rng(0).normal(0, 0.1, 10_000), 3.0)
    assert choose_format(x, 3, "mse").lsb < choose_format(x, 3, "max").lsb
