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
    folded, raw = fold_scale(model, [12], [UNIT]), InputGrid(UNIT._replace(integer=12))
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
    folded = fold_scale(model, [shift], [UNIT])
    assert folded is not None
    grids = InputGrid(UNIT), InputGrid(UNIT._replace(integer=shift))
    x = grids[0].random(20, (8,), np.random.default_rng(shift))
    before, after = (KerasVictim(m, "quantized", g).logits(x) for m, g in zip((model, folded), grids, strict=True))
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("kind", ["float_mlp", "jet_tagger", "twelve_bits"])
def test_what_cannot_be_folded_exactly_is_left(kind: str) -> None:
    made = build(kind)
    assert fold_scale(made, [8], [FixedPoint(8, 0, signed=False)]) is None or not contract(made)


def test_a_quantizer_that_rounds_the_data_is_left() -> None:
    assert fold_scale(dense("quantized_bits(9, 0, alpha=1)"), [12], [UNIT]) is None


def two_ports() -> Any:
    keras, q = runtime().keras, runtime().qkeras
    ports = [keras.Input((4,), name=name) for name in ("left", "right")]
    sides = [act("quantized_bits(13, 0, alpha=1)")(port) for port in ports]
    sides = [act("quantized_relu(8, 2)")(q.QDense(4, **both(6))(side)) for side in sides]
    return spread(keras.Model(ports, q.QDense(3, **both(6))(keras.layers.Concatenate()(sides)), name="own"))


def unexact() -> Any:
    """A mean over a number that is no power of two, and nothing behind it that rounds: reported."""
    layers, q = runtime().keras.layers, runtime().qkeras
    first = act("quantized_bits(13, 0, alpha=1)"), q.QConv1D(3, 1, **both(6)), act("quantized_relu(8, 2)")
    return spread(chain((3, 2), *first, layers.GlobalAveragePooling1D(), q.QDense(3, **both(6))))


def test_every_input_has_its_own_scale() -> None:
    model, plain = two_ports(), InputGrid(UNIT)
    folded = fold_scale(model, [12, 0], [UNIT, UNIT])
    assert folded is not None and contract(folded) == ()
    grid = plain.over([("left", (4,)), ("right", (4,))])
    moved = grid.moved([12, 0])
    assert [fmt.integer for fmt in moved.formats] == [12, 0]
    x = grid.random(60, (8,), np.random.default_rng(0))
    expected, bits = outputs(model, grid, x)
    np.testing.assert_array_equal(bits, expected)
    for found in outputs(folded, moved, x):
        np.testing.assert_array_equal(found, expected)


def test_a_model_that_differs_behind_its_first_layer_keeps_its_accelerators_bits() -> None:
    model, grid = unexact(), InputGrid(UNIT)
    folded = fold_scale(model, [12], [UNIT])
    assert folded is not None and contract(folded) == contract(model) != ()
    x = grid.random(60, (3, 2), np.random.default_rng(0))
    before = Accelerator(model, grid=grid, exactness="reported", engine="bitsim")
    after = Accelerator(folded, grid=grid.moved([12]), exactness="reported", engine="bitsim")
    np.testing.assert_array_equal(after.logits(x), before.logits(x))


def test_float_weights_are_not_divided() -> None:
    layers = runtime().keras.layers
    assert fold_scale(spread(chain((8,), layers.Dense(3))), [12], [UNIT]) is None
