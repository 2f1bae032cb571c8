"""Casts and small recipes as alkaid computes them: the scalar reference's integers, for every input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.rtl.arithmetic import Place, apply, cast
from hw.simulate.bitsim.recipes import Affine, Choose, Clamp, DivideTowardsZero, LookupTable, recipe
from hw.simulate.bitsim.scalars import quantize
from qmodels.errors import UserError
from qmodels.formats import FixedPoint, Overflow, Rounding

trace = pytest.importorskip("alkaid.trace", reason="needs the extra rtl: pip install 'robust-hls[rtl]'")

MODES = [mode for mode in Overflow if mode is not Overflow.WRAP_SM]


def formats(widest: int) -> st.SearchStrategy[FixedPoint]:
    def build(width: int, integer: int, signed: bool, rounding: Rounding, overflow: Overflow) -> FixedPoint:
        return FixedPoint(width, integer, signed, rounding, overflow)

    modes = st.sampled_from(list(Rounding)), st.sampled_from(MODES)
    return st.builds(build, st.integers(1, widest), st.integers(-3, widest + 3), st.booleans(), *modes)


def symbol(low: int, high: int):
    return trace.FVariable(float(low), float(high), 1.0, hwconf=trace.HWConfig(1, 1, -1), latency=0.0)


def computed(compute, low: int, high: int) -> np.ndarray:
    """compute(x) for every x from low to high, by alkaid's interpreter."""
    x = symbol(low, high)
    logic = trace.trace([x], [compute(x)], keep_dead_inputs=True)
    return logic.predict(np.arange(low, high + 1, dtype=np.float64)[:, None], n_threads=1)[:, 0]


@settings(max_examples=300)
@given(formats(9), formats(9))
def test_every_cast_gives_the_scalar_references_integers(source, target):
    low, high = source.raw_min, source.raw_max
    if low == high:
        return
    expected = [quantize(raw, source, target) for raw in range(low, high + 1)]
    np.testing.assert_array_equal(computed(lambda x: cast(x, source, target, "one"), low, high), expected)


@settings(max_examples=25)
@given(
    st.integers(-70, 70), st.integers(-40, 40), st.integers(-60, 60), st.booleans(), st.sampled_from([1, 2, 4, 3, 7])
)
def test_recipes_compute_what_they_say(scale, offset, threshold, or_equal, divisor):
    actions = (Affine(scale, offset), Clamp(-500, 700), DivideTowardsZero(divisor))
    table = LookupTable(np.arange(1301) % 37, -600)
    choice = Choose(threshold, (Affine(1, 3),), (table,), or_equal)
    expected = []
    for raw in range(-32, 32):
        v = min(max(raw * scale + offset, -500), 700)
        v = int(np.sign(v)) * (abs(v) // divisor)
        yes = v >= threshold if or_equal else v > threshold
        expected.append(v + 3 if yes else (v + 600) % 37)
    found = computed(lambda x: apply(recipe(*actions, choice), x, Place("one")), -32, 31)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("compute", "told"),
    [
        (lambda x: cast(x, FixedPoint(8, 8), FixedPoint(4, 4, overflow=Overflow.WRAP_SM), "mine"), "AP_WRAP_SM"),
        (lambda x: apply(recipe(Affine(1, (1 << 40) + 1)), x, Place("mine")), "a constant of 41 bits"),
        (lambda x: apply(recipe(Affine(1, 1 << 23), Affine(1, 1)), x, Place("mine")), None),
        (lambda x: apply(recipe(Affine(1, 1 << 24), Affine(1, 1)), x, Place("mine")), "a constant of 25 bits"),
        (lambda x: apply(recipe(Affine(1 << 46)), x, Place("mine")), "numbers of more than 48 bits"),
        (lambda x: apply(recipe(Affine(999), DivideTowardsZero(3)), x, Place("mine")), "a division by 3"),
    ],
)
def test_what_alkaid_cannot_say_is_refused_by_the_layers_name(compute, told):
    x = symbol(-128, 127)
    if told is None:
        found = computed(compute, -128, 127)
        np.testing.assert_array_equal(found, np.arange(-128, 128) + (1 << 23) + 1)
        return
    with pytest.raises(UserError, match=f"layer 'mine'.*{told}"):
        compute(x)
