"""FixedPoint: text and raw integers, there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.grid import IMAGE_GRID


@st.composite
def formats(draw: Any, widest: int = 52) -> FixedPoint:
    width = draw(st.integers(1, widest))
    return FixedPoint(
        width,
        draw(st.integers(-20, 40)),
        draw(st.booleans()),
        draw(st.sampled_from(Rounding)),
        draw(st.sampled_from(Overflow)),
    )


@given(formats())
def test_text_and_back(fmt: FixedPoint) -> None:
    assert FixedPoint.parse(str(fmt)) == fmt
    assert FixedPoint.parse(f"ap_{fmt}".replace(",", ", ")) == fmt


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ("fixed<16,6>", FixedPoint(16, 6)),
        ("ap_fixed<16,6>", FixedPoint(16, 6)),
        ("ufixed<8,0>", FixedPoint(8, 0, signed=False)),
        ("ap_ufixed<6,2,AP_RND_CONV,AP_SAT,0>", FixedPoint(6, 2, False, Rounding.RND_CONV, Overflow.SAT)),
        ("fixed<4,-3,RND>", FixedPoint(4, -3, True, Rounding.RND)),
    ],
)
def test_what_hls4ml_and_vitis_write(text: str, fmt: FixedPoint) -> None:
    assert FixedPoint.parse(text) == fmt


@pytest.mark.parametrize(
    "text",
    [
        "",
        "float",
        "int<8>",
        "fixed<>",
        "fixed<a,b>",
        "fixed<0,0>",
        "fixed<8,2",
        "fixed<8,2>x",
        "fixed<8,2,NEAREST,SAT>",
    ],
)
def test_text_that_is_no_format(text: str) -> None:
    with pytest.raises(ValueError, match=r"fixed|NEAREST"):
        FixedPoint.parse(text)


@given(formats(), st.data())
def test_values_of_raw_integers_and_back(fmt: FixedPoint, data: st.DataObject) -> None:
    raw = np.array(data.draw(st.lists(st.integers(fmt.raw_min, fmt.raw_max), max_size=20)), np.int64)
    assert fmt.lsb == 2.0 ** (fmt.integer - fmt.width)
    np.testing.assert_array_equal(fmt.to_raw(raw * fmt.lsb), raw)


@given(formats())
def test_the_range_is_the_raw_range(fmt: FixedPoint) -> None:
    assert (fmt.minimum, fmt.maximum) == (fmt.raw_min * fmt.lsb, fmt.raw_max * fmt.lsb)
    assert fmt.raw_max - fmt.raw_min + 1 == 2**fmt.width
    assert (fmt.raw_min < 0) == fmt.signed


@given(formats(widest=30), st.sampled_from(["above", "below", "between"]))
def test_values_off_the_grid_or_out_of_range_are_refused(fmt: FixedPoint, where: str) -> None:
    bad = {"above": fmt.maximum + fmt.lsb, "below": fmt.minimum - fmt.lsb, "between": fmt.minimum + fmt.lsb / 2}[where]
    with pytest.raises(ValueError, match="not representable"):
        fmt.to_raw(np.array([fmt.minimum, bad]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_raw_integer(bad: float) -> None:
    with pytest.raises(ValueError, match="not representable"):
        FixedPoint(8, 2).to_raw(np.array([0.5, bad]))


def test_raw_integers_that_numpy_cannot_hold_are_refused() -> None:
    values = np.array([0.5, -0.25, 0.75])
    assert FixedPoint(62, 1).to_raw(values).tolist() == [2**60, -(2**59), 3 * 2**59]
    with pytest.raises(ValueError, match="more than 62 bits"):
        FixedPoint(80, 3).to_raw(values)


def test_device_inputs_are_k_over_256() -> None:
    assert (IMAGE_GRID.format.minimum, IMAGE_GRID.format.maximum, IMAGE_GRID.format.lsb) == (0.0, 255 / 256, 1 / 256)


class _Integer:
    """hls4ml's IntegerPrecisionType, as far as we read it."""

    width, signed = 5, False

    def __str__(self) -> str:
        return "uint<5>"


def test_hls4mls_integer_types_are_formats_without_fraction() -> None:
    assert FixedPoint.from_hls4ml(_Integer()) == FixedPoint(5, 5, signed=False)
