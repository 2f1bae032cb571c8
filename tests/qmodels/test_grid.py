"""The input grid: codes and values are one to one, bounds hold, and bad grids are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import EXTREMES, IMAGE_GRID, InputGrid

FORMATS = st.builds(FixedPoint, st.integers(1, 24), st.integers(-8, 12), st.booleans())


@given(FORMATS, st.integers(0, 2**20))
def test_codes_and_values_are_one_to_one(fmt: FixedPoint, seed: int) -> None:
    grid = InputGrid(fmt)
    codes = grid.random(50, (3,), np.random.default_rng(seed))
    values = grid.to_values(codes)
    np.testing.assert_array_equal(fmt.to_raw(values), codes)
    back = grid.to_codes(values)
    np.testing.assert_array_equal(back, codes)
    assert back.dtype == grid.dtype == codes.dtype
    assert np.iinfo(grid.dtype).min <= fmt.raw_min and fmt.raw_max <= np.iinfo(grid.dtype).max


@given(FORMATS, st.integers(0, 2**20))
def test_everything_a_grid_makes_lies_within_its_bounds(fmt: FixedPoint, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(fmt.raw_min, fmt.raw_max + 1, (2, 2, 3)), axis=0)
    grid = InputGrid(fmt, ends[0], ends[1])
    made = [grid.random(20, (2, 3), rng), grid.random_ends(20, (2, 3), rng), grid.extremes((2, 3))]
    made += [grid.to_codes(rng.normal(0, 1e3, (20, 2, 3))), grid.nearest(np.full((1, 2, 3), np.nan))]
    for codes in made:
        assert codes.dtype == grid.dtype
        assert (codes >= ends[0]).all() and (codes <= ends[1]).all()
    assert len(made[2]) == EXTREMES and (made[2][0] == ends[0]).all() and (made[2][1] == ends[1]).all()


def test_images_are_the_default_grid() -> None:
    assert (IMAGE_GRID.dtype, IMAGE_GRID.span, IMAGE_GRID.scale, float(IMAGE_GRID.step)) == (
        np.uint8,
        256,
        256.0,
        2**-8,
    )
    assert IMAGE_GRID == InputGrid(FixedPoint(8, 0, signed=False), 0, 255) != InputGrid(FixedPoint(8, 1))
    np.testing.assert_array_equal(
        IMAGE_GRID.to_codes(np.array([-1.0, 0.4999, 0.5, 2.0, np.nan])), [0, 128, 128, 255, 0]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": FixedPoint(25, 3)}, "has 25 bits; allowed: up to 24"),
        ({"format": FixedPoint(8, 0, False), "upper": 256}, "upper must be whole codes .* 0 to 255"),
        ({"format": FixedPoint(8, 0), "lower": [0.5, 1]}, "lower must be whole codes"),
        ({"format": FixedPoint(8, 0), "lower": [1, 5], "upper": [9, 4]}, "lower bound lies above"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InputGrid(**settings)  # type: ignore[arg-type]
