"""A power of two between the user's numbers and the model's goes into the first weights, and no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.conversion import spread
from helpers.own_models import act, both, build, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from hw import Accelerator
from hw.generate.contract import contract, fold_scale
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim

UNIT = FixedPoint(12, 0, signed=False)  # a converter's counts, divided by 4096


def dense(first: str = "quantized_bits(13, 0, alpha=1)") -> Any:
    layers = act(first), runtime().qkeras.QDense(6, **both(6)), act("quantized_relu(8, 2)")
    return spread(chain((8,), *layers, runtime().qkeras.QDense(3, **both(6))))


def convolution() -> Any:
    """Zeros are put in and the rows flattened before weights are met; two layers read the input."""
    keras, q = runtime().keras, runtime().qkeras
    source = keras.Input((4, 2), name="features")
    x = keras.layers.ZeroPadding1D(1)(act("quantized_bits(13, 0, alpha=1)")(source))
    sides = [q.QConv1D(2, size, padding="same", **both(6))(x) for size in (1, 3)]
    x = keras.layers.Flatten()(keras.layers.Concatenate()([act("quantized_relu(8, 2)")(side) for side in sides]))
    return spread(keras.Model(source, q.QDense(3, **both(6))(x), name="own"))


def outputs(model: Any, grid: InputGrid, x: Any) -> tuple[Any, Any]:
    return KerasVictim(model, "quantized", grid).logits(x), Accelerator(model, grid=grid).logits(x)


@pytest.mark.gxx
@pytest.mark.parametrize(("make", "shape"), [(dense, (8,)), (convolution, (4, 2))])
def test_the_same_codes_give_the_same_bits(make: Any, shape: tuple[int, ...]) -> None:
    model, plain = make(), InputGrid(UNIT)
    folded, raw = fold_scale(model, 12, UNIT), InputGrid(UNIT._replace(integer=12))
    assert folded is not None and contract(folded) == () and raw.step == 1
    x = np.concatenate([plain.random(50, shape, np.random.default_rng(0)), plain.extremes(shape)])
    expected, bits = outputs(model, plain, x)
    np.testing.assert_array_equal(bits, expected)
    for found in outputs(folded, raw, x):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def model() -> Any:
    return dense()


@given(st.integers(0, 14))
@settings(max_examples=6)
def test_whatever_the_power(model: Any, shift: int) -> None:
    folded = fold_scale(model, shift, UNIT)
    assert folded is not None
    grids = InputGrid(UNIT), InputGrid(UNIT._replace(integer=shift))
    x = grids[0].random(20, (8,), np.random.default_rng(shift))
    before, after = (KerasVictim(m, "quantized", g).logits(x) for m, g in zip((model, folded), grids, strict=True))
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("kind", ["two_inputs", "float_mlp", "jet_tagger", "twelve_bits"])
def test_what_cannot_be_folded_exactly_is_left(kind: str) -> None:
    made = build(kind)
    assert fold_scale(made, 8, FixedPoint(8, 0, signed=False)) is None or not contract(made)


def test_a_quantizer_that_rounds_the_data_is_left() -> None:
    assert fold_scale(dense("quantized_bits(9, 0, alpha=1)"), 12, UNIT) is None
