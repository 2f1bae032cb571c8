"""Repairs of kinds of layers: what was written otherwise computes the same, and the accelerator its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.conversion import spread
from helpers.own_models import act, bits, both, chain

from hw import Accelerator
from hw.generate.contract import contract, repair_model
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime

GRID = InputGrid(FixedPoint(10, 2))
FIRST = "quantized_bits(10, 1, alpha=1)"


def rows() -> Any:
    return chain((5, 3), act(FIRST), runtime().qkeras.QDense(4, **both(6), activation="quantized_relu(8, 3)"))


def picture() -> Any:
    return chain((3, 4, 2), act(FIRST), runtime().qkeras.QDense(4, use_bias=False, kernel_quantizer=bits(6)))


def pooled() -> Any:
    q, flatten = runtime().qkeras, runtime().keras.layers.Flatten()
    pool = q.QAveragePooling2D(2, average_quantizer=bits(8), activation=q.quantized_bits(8, 2, alpha=1))
    body = act(FIRST), q.QConv2D(2, 3, padding="same", **both(6)), act("quantized_relu(8, 3)"), pool, flatten
    return chain((4, 4, 1), *body, q.QDense(3, **both(6)))


def normed() -> Any:
    q = runtime().qkeras
    return chain((6,), act(FIRST), q.QDense(4, **both(6)), q.QBatchNormalization(), act("quantized_relu(8, 3)"))


MODELS = {
    "rows": (rows, "written as QConv1D with kernel_size=1", True),
    "picture": (picture, "written as QConv2D with kernel_size=1", True),
    "pooled": (pooled, "QAveragePooling2D is now AveragePooling2D", True),
    "normed": (normed, "folded into the weights, rounded again", False),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_outputs(kind: str) -> None:
    build, told, exact = MODELS[kind]
    model = spread(build())
    assert any(found.repair is not None for found in contract(model))
    repaired = repair_model(model)
    assert contract(repaired.model) == () and told in " ".join(repaired.repairs) and repaired.exact == exact
    codes = GRID.random(80, model.input_shape[1:], np.random.default_rng(0))
    values, accelerator = GRID.to_values(codes), Accelerator(repaired.model, grid=GRID)
    outputs = np.asarray(repaired.model(values)).reshape(len(codes), -1)
    np.testing.assert_array_equal(np.asarray(accelerator.predict(codes)).reshape(len(codes), -1), outputs)
    if exact:
        np.testing.assert_array_equal(outputs, np.asarray(model(values)).reshape(len(codes), -1))


def test_an_average_that_is_rounded_otherwise_is_refused() -> None:
    pool = runtime().qkeras.QAveragePooling2D(3, average_quantizer=bits(4))
    found = contract(chain((6, 6, 1), act(FIRST), pool, runtime().keras.layers.Flatten()))
    assert (found[0].setting, found[0].grade) == ("class", "refused")
    assert "use AveragePooling2D and a QActivation behind it" in str(found[0])


def test_what_scales_the_input_is_told_with_its_setting() -> None:
    scaled = runtime().keras.layers.Rescaling(1 / 64)
    (found,) = contract(chain((6,), scaled, act(FIRST), runtime().qkeras.QDense(3, **both(6))))[:1]
    assert (found.repair, found.fix) == ("scaling", "build the model without it, and set data.input.scale: 64")
