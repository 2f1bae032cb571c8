"""Integer codes give the bits of the numbers they stand for: code * 2**-fraction, whatever the input's format."""

from __future__ import annotations

import itertools
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.codes import SHARED, Merge
from hw.simulate.bitsim.kernels.library import codes_header
from hw.simulate.bitsim.program import Binary, Input, Network, Value
from hw.simulate.bitsim.recipes import Cast, Recipe, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding

TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.int32]
PIXEL = FixedPoint(9, 1, True, Rounding.RND_CONV, Overflow.SAT)


@st.composite
def formats(draw):
    signed, overflow = draw(st.booleans()), draw(st.sampled_from(Overflow))
    if overflow is Overflow.WRAP_SM:
        signed = True
    width = draw(st.integers(2, 40) | st.integers(2, 16))
    return FixedPoint(width, draw(st.integers(-8, width + 8)), signed, draw(st.sampled_from(Rounding)), overflow)


def inputs_only(fmt, shape):
    """A network that shows what its input becomes."""
    value = Value(0, "x", shape, fmt)
    return BitSim(Network((Input(value, 0),), (value,), (value,), {"x": value}))


def codes_of(kind, samples, shape, seed):
    """Up to 24 bits, with the ends and small numbers among them."""
    info = np.iinfo(kind)
    low, high = max(info.min, -(1 << 24)), min(info.max, 1 << 24)
    rng = np.random.default_rng(seed)
    codes = rng.integers(low, high + 1, (samples, *shape))
    special = np.array([low, low + 1, max(low, -1), 0, 1, 2, 3, high - 1, high])
    return np.where(rng.random(codes.shape) < 0.4, rng.choice(special, codes.shape), codes).astype(kind)


@pytest.mark.gxx
@settings(max_examples=300, deadline=None)
@given(
    formats(),
    st.sampled_from(TYPES),
    st.integers(-10, 40),
    st.sampled_from([(1,), (7,), (150,), (5, 3), (4, 5, 3)]),
    st.integers(1, 70),
    st.integers(0, 1000),
)
@example(PIXEL, np.uint8, 8, (4, 5, 3), 40, 0)
@example(PIXEL, np.int8, 8, (4, 5, 3), 40, 0)  # negative: not the bytes that are first taken for granted
@example(FixedPoint(16, 6), np.int32, 10, (7,), 33, 1)
@example(FixedPoint(16, 0, True, Rounding.TRN, Overflow.SAT), np.uint16, -1, (7,), 33, 1)
def test_codes_are_read_as_the_numbers_they_stand_for(fmt, kind, fraction, shape, samples, seed):
    simulator, codes = inputs_only(fmt, shape), codes_of(kind, samples, shape, seed)
    got = simulator.predict(codes, fraction=fraction)
    assert got.dtype == np.float32
    numbers = codes * 2.0**-fraction
    np.testing.assert_array_equal(got, simulator.predict(numbers).astype(np.float32))
    np.testing.assert_array_equal(got, simulator.predict(numbers.astype(np.float32)))
    if fmt.overflow is not Overflow.WRAP_SM:  # it asks for the bits of the double too
        source = FixedPoint(26, 26 - fraction)
        expected = [quantize(int(code), source, fmt) * 2.0**-fmt.fraction for code in codes.reshape(-1)]
        np.testing.assert_array_equal(got.reshape(-1), np.array(expected).astype(np.float32))


@pytest.mark.gxx
@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.WRAP])
@pytest.mark.parametrize("rounding", [Rounding.TRN, Rounding.RND_CONV])
@pytest.mark.parametrize("width", [5, 7, 9, 16])
def test_codes_on_every_grid_near_the_formats_own_and_on_its_ties(width, rounding, overflow):
    for signed, shift in itertools.product((True, False), range(-18, 36)):
        fmt = FixedPoint(width, width - 3, signed, rounding, overflow)
        step = 1 << max(0, shift - 1)  # half of the format's step
        near = np.array([k * step + by for k in (*range(-6, 7), -255, 255, 65535) for by in (-1, 0, 1)])
        simulator = inputs_only(fmt, (1,))
        for kind in TYPES:
            info = np.iinfo(kind)
            codes = np.clip(np.append(near, [info.min, info.max]), info.min, info.max).astype(kind).reshape(-1, 1)
            got = simulator.predict(codes, fraction=fmt.fraction + shift)
            expected = simulator.predict(codes * 2.0 ** -(fmt.fraction + shift))
            np.testing.assert_array_equal(got, expected.astype(np.float32), err_msg=f"{fmt} {kind.__name__} {shift}")


@pytest.mark.gxx
@pytest.mark.parametrize("fmt", [PIXEL, FixedPoint(20, 4), FixedPoint(24, 24, True, Rounding.RND, Overflow.SAT)])
@pytest.mark.parametrize("fraction", [-100, -31, 20, 31, 32, 33, 63, 100])
def test_every_int32_is_read_exactly_at_any_fraction(fmt, fraction):
    ends = np.array(
        [-(1 << 31), 1 - (1 << 31), -(1 << 30), -65537, -65536, 65535, 65536, -3, -1, 0, 1, 3, 1 << 30, (1 << 31) - 1],
        np.int32,
    )
    simulator = inputs_only(fmt, (1,))
    got = simulator.predict(ends.reshape(-1, 1), fraction=fraction)
    np.testing.assert_array_equal(got, simulator.predict(ends.reshape(-1, 1) * 2.0**-fraction).astype(np.float32))


@pytest.mark.gxx
def test_arrays_of_any_order_and_layout_are_codes_too():
    simulator, codes = inputs_only(PIXEL, (4, 5, 3)), codes_of(np.int16, 20, (4, 5, 3), 3)
    expected = simulator.predict(codes, fraction=7)
    np.testing.assert_array_equal(simulator.predict(codes.astype(">i2"), fraction=7), expected)
    np.testing.assert_array_equal(simulator.predict(np.asfortranarray(codes), fraction=np.int64(7)), expected)
    np.testing.assert_array_equal(simulator.predict(codes.reshape(20, -1), fraction=7), expected)
    assert simulator.predict(codes[:0], fraction=7).shape == (0, 60)


def two_inputs():
    wide = FixedPoint(22, 10)
    one, two, out = Value(0, "one", (3,), PIXEL), Value(1, "two", (3,), wide), Value(2, "sum", (3,), wide)
    exact = recipe(Cast(FixedPoint(40, 28), wide, "sum"))
    grids = recipe(Cast(PIXEL, wide)), Recipe()
    ops = (Input(one, 0), Input(two, 1), Binary(one, two, out, Merge.ADD, *grids, exact))
    return BitSim(Network(ops, (one, two), (out,), {"sum": out}))


@pytest.mark.gxx
def test_several_inputs_have_one_fraction_or_one_each():
    simulator = two_inputs()
    pixels, features = codes_of(np.uint8, 50, (3,), 1), codes_of(np.int16, 50, (3,), 2)
    expected = simulator.predict([(pixels / 256).astype(np.float32), (features / 256).astype(np.float32)])
    np.testing.assert_array_equal(expected, np.float32(pixels / 256 + features / 256))
    np.testing.assert_array_equal(simulator.predict([pixels, features], fraction=8), expected)
    other = simulator.predict([pixels / 256, features / 2**10])
    assert other.dtype == np.float64
    np.testing.assert_array_equal(simulator.predict([pixels, features], fraction=[8, 10]), other.astype(np.float32))
    np.testing.assert_array_equal(simulator.predict([pixels, features / 2**10], fraction=[8, None]), other)


@pytest.mark.gxx
def test_codes_without_a_fraction_and_numbers_with_one_are_refused():
    simulator, codes = inputs_only(PIXEL, (3,)), np.ones((2, 3), np.uint8)
    for call in (simulator.predict, simulator.trace, simulator.overflow_report):
        with pytest.raises(UserError, match=r"'x' contains integer codes \(uint8\).*fraction=8"):
            call(codes)
        with pytest.raises(UserError, match=r"'x' contains real numbers \(float32\).*fraction=8"):
            call(codes.astype(np.float32), fraction=8)
    with pytest.raises(UserError, match="'x' contains int64: allowed are floats, and codes as uint8, int8"):
        simulator.predict(codes.astype(np.int64), fraction=8)
    for wrong in (101, 0.5, "8"):
        with pytest.raises(UserError, match="whole number from -100 to 100"):
            simulator.predict(codes, fraction=wrong)
    with pytest.raises(UserError, match="list of 1, and the model has 2 inputs"):
        two_inputs().predict([codes, codes], fraction=[8])


def test_the_header_says_what_the_enums_say():
    header = codes_header()
    for enum in SHARED:
        assert issubclass(enum, IntEnum)
        inside = header.split(f"namespace {enum.__name__} {{")[1].split("{")[1].split("}")[0]
        assert dict(part.strip().split(" = ") for part in inside.split(",")) == {m.name: str(m.value) for m in enum}
    assert set(Rounding.__members__) == set(next(e for e in SHARED if e.__name__ == "RoundMode").__members__)
    assert set(Overflow.__members__) == set(next(e for e in SHARED if e.__name__ == "OverflowMode").__members__)
