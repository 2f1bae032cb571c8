"""Models of several inputs, each with its own shape and format: one flat grid, split for models and simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benches import compile_bench, run_bench
from helpers.conversion import spread
from helpers.own_models import act, both

from hw import Accelerator, HardwareConfig
from hw.generate.contract import contract, repair_model
from hw.generate.testbench import Origin, TestBench
from qmodels.attacks import PGD, Square
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim, predictions

SEQUENCE, NUMBERS = InputGrid(FixedPoint(12, 4)), InputGrid(FixedPoint(9, 0, signed=False))
GRID = InputGrid.join([("tracks", (6, 2), SEQUENCE), ("calo", (4,), NUMBERS)])
CODES = GRID.random(40, (16,), np.random.default_rng(0))


def two_branches(*, rounded: bool = True) -> Any:
    """A sequence and a few numbers that meet before the last layer."""
    keras, q = runtime().keras, runtime().qkeras
    tracks, calo = keras.Input((6, 2), name="tracks"), keras.Input((4,), name="calo")
    left = act("quantized_bits(12, 3, alpha=1)")(tracks) if rounded else tracks
    right = act("quantized_bits(10, 0, alpha=1)")(calo)
    left = act("quantized_relu(8, 3)")(q.QConv1D(3, 3, **both(6))(left))
    right = act("quantized_relu(8, 3)")(q.QDense(5, **both(6))(right))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(left), right])
    return spread(keras.Model([tracks, calo], q.QDense(3, **both(6))(joined), name="own"))


@pytest.fixture(scope="module")
def model() -> Any:
    return two_branches()


@pytest.fixture(scope="module")
def accelerator(model: Any) -> Accelerator:
    return Accelerator(model, grid=GRID)


@pytest.mark.gxx
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_every_simulator_gives_the_models_bits(model: Any, io_type: Any) -> None:
    accelerator = Accelerator(model, HardwareConfig(io_type=io_type), grid=GRID)
    expected = KerasVictim(model, "quantized", GRID).logits(CODES)
    assert len(set(expected.argmax(axis=1))) > 1
    np.testing.assert_array_equal(accelerator.bitsim.logits(CODES), expected)
    np.testing.assert_array_equal(accelerator.compile(optimize=False).logits(CODES), expected)


@pytest.mark.gxx
def test_lists_codes_and_flat_samples_are_the_same_inputs(accelerator: Accelerator) -> None:
    expected = accelerator.logits(CODES)
    parts = GRID.feed(CODES)
    assert [part.shape for part in parts] == [(40, 6, 2), (40, 4)]
    np.testing.assert_array_equal(accelerator.predict(parts), expected)
    np.testing.assert_array_equal(accelerator.predict(CODES), expected)
    np.testing.assert_array_equal(accelerator.predict(GRID.feed(GRID.to_values(CODES))), expected)
    assert set(accelerator.trace(CODES)) and len(accelerator.overflow_report(CODES))


@pytest.mark.gxx
def test_attacks_keep_to_the_grid_of_every_input(model: Any) -> None:
    frozen = InputGrid(NUMBERS.format, frozen=np.array([True, False, False, False]))
    grid = InputGrid.join([("tracks", (6, 2), SEQUENCE), ("calo", (4,), frozen)])
    accelerator = Accelerator(model, grid=grid)
    y = predictions(accelerator, CODES)
    epsilon = np.repeat([200.0, 40.0], [12, 4])  # grid steps of either input
    for attack in (PGD(steps=10), Square(queries=50)):
        result = attack(accelerator, CODES, y, epsilon_lsb=epsilon, seed=0)
        change = np.abs(result.x.astype(np.int64) - CODES)
        assert 0 < result.success.sum() and (change <= epsilon).all() and (change[:, 12] == 0).all()
        assert (result.x >= grid.lower).all() and (result.x <= grid.upper).all()
        np.testing.assert_array_equal(result.success, predictions(accelerator, result.x) != y)


@pytest.mark.gxx
def test_one_grid_for_all_inputs(model: Any) -> None:
    accelerator = Accelerator(model, grid=InputGrid(FixedPoint(9, 4)))
    assert [port.name for port in accelerator.grid.ports] == ["tracks", "calo"]
    x = accelerator.grid.extremes((16,))
    np.testing.assert_array_equal(accelerator.logits(x), KerasVictim(model, "quantized", accelerator.grid).logits(x))
    with pytest.raises(UserError, match=r"is the grid of other inputs; the model has tracks \(6, 2\), calo \(4,\)"):
        Accelerator(model, grid=InputGrid.join([("calo", (4,), NUMBERS), ("tracks", (6, 2), SEQUENCE)]))


def test_each_input_is_rounded_to_its_own_format() -> None:
    model = two_branches(rounded=False)
    assert [found.repair for found in contract(model)] == ["input"]
    repaired = repair_model(model, input_formats=GRID.formats)
    assert repaired.exact and contract(repaired.model) == ()
    assert repaired.repairs == ("layer 'input_grid': inserted, QActivation(quantized_bits(12,3,alpha=1)) rounds the "
                                "input 'tracks'",)  # fmt: skip
    victims = [KerasVictim(one, "quantized", GRID) for one in (model, repaired.model)]
    np.testing.assert_array_equal(victims[0].logits(CODES), victims[1].logits(CODES))


@pytest.mark.gxx
def test_the_test_bench_holds_all_inputs_of_a_sample_in_a_line(accelerator: Accelerator, tmp_path: Path) -> None:
    project = accelerator.project
    project.write(tmp_path)
    outputs = accelerator.logits(CODES)
    TestBench(CODES, outputs, (Origin("clean"),) * 40, GRID).write(tmp_path)
    compile_bench(tmp_path, project)
    assert "PASS: 0 of 120 outputs differ, in 0 of 40 inputs" in run_bench(tmp_path)[1]
    outputs[7, 1] += 2.0**-8
    TestBench(CODES, outputs, (Origin("clean"),) * 40, GRID).write(tmp_path)
    assert "FAIL: 1 of 120 outputs differ, in 1 of 40 inputs" in run_bench(tmp_path)[1]
