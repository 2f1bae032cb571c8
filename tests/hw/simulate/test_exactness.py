"""The gate: one bit is enough to stop, and the message says where it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox, grid_codes

from hw.simulate.exactness import Exactness, probe_inputs, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.errors import ExactnessError
from qmodels.formats import FixedPoint
from qmodels.grid import EXTREMES, IMAGE_GRID, Codes
from qmodels.victims import KerasVictim, Logits


@dataclass
class Fixed:
    """Answers what it was given."""

    name: str
    answers: Logits

    def logits(self, x: Codes) -> Logits:
        return self.answers[: len(x)]


X = grid_codes(6, (2, 2, 1))
LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def test_equal_bits_pass_and_are_counted() -> None:
    passed = require_exact(Fixed("quantized", LOGITS), Fixed("csim", LOGITS.copy()), X)
    assert passed == Exactness("quantized", "csim", 6, 0)


@pytest.mark.parametrize("sample", [0, 5])
def test_the_last_bit_of_one_output_is_enough(sample: int) -> None:
    wrong = LOGITS.copy()
    wrong[sample, 1] = np.nextafter(wrong[sample, 1], np.float32(np.inf))
    with pytest.raises(ExactnessError) as caught:
        require_exact(Fixed("quantized", LOGITS), Fixed("csim", wrong), X)
    assert caught.value.exit_status == 4
    text = str(caught.value)
    assert text.startswith("csim differs from quantized in 1 of 18 outputs (1 of 6 inputs):\n")
    assert f"input {sample}, class 1: quantized {LOGITS[sample, 1]!r}, csim {wrong[sample, 1]!r}" in text


def test_nan_is_no_agreement() -> None:
    broken = np.full_like(LOGITS, np.nan)
    with pytest.raises(ExactnessError, match="18 of 18 outputs"):
        require_exact(Fixed("a", broken), Fixed("b", broken), X)


def test_five_cases_are_shown_of_many() -> None:
    with pytest.raises(ExactnessError) as caught:
        require_exact(Fixed("a", LOGITS), Fixed("b", LOGITS + 1), X)
    assert str(caught.value).count("\n  input ") == 5


@pytest.mark.parametrize("layer", ["conv1", "fc1", "logits"])
def test_a_changed_weight_is_found_in_its_layer(toolbox: Toolbox, layer: str) -> None:
    from qmodels.runtime import runtime

    model = toolbox.quantized.model
    wrong = runtime().keras.models.clone_model(model)
    wrong.set_weights(model.get_weights())
    kernel, bias = wrong.get_layer(layer).get_weights()
    wrong.get_layer(layer).set_weights([kernel, bias + 0.25])
    victims = KerasVictim(model, "quantized"), KerasVictim(wrong, "quantized")
    with pytest.raises(ExactnessError, match=f"first layer that differs: '{layer}', "):
        require_exact(
            *victims, grid_codes(20), traces=(lambda x: model_trace(model, x), lambda x: model_trace(wrong, x))
        )


def told(ours: dict[str, Any], theirs: dict[str, Any], **more: Any) -> str:
    """The last line of the gate's message when only input 4 differs."""
    wrong = LOGITS.copy()
    wrong[4, 1] += 1
    with pytest.raises(ExactnessError) as caught:
        require_exact(
            Fixed("quantized", LOGITS), Fixed("csim", wrong), X, traces=(lambda x: ours, lambda x: theirs), **more
        )
    return str(caught.value).splitlines()[-1]


def test_layers_that_only_one_side_knows_are_passed_over() -> None:
    ours = {"a": np.zeros((1, 2)), "b": np.zeros((1, 2, 2)), "c": np.zeros((1, 1))}
    theirs = {"b": np.array([[0.0, 0.0, 0.5, 0.0]]), "c": np.ones((1, 1)), "d": np.ones(1)}
    assert told(ours, theirs) == (
        "first layer that differs: 'b', sample 4, element (1, 0): 0.0 (format unknown) against 0.5 (format unknown); "
        "1 of 4 values of this layer differ"
    )
    assert "0.0 (fixed<4,3,TRN,WRAP>) against 0.5" in told(ours, theirs, formats={"b": FixedPoint(4, 3)})


def test_traces_that_cannot_name_a_layer_say_why() -> None:
    ours = {"a": np.zeros((1, 2))}
    assert told(ours, ours) == "no traced layer differs: the difference is in the output stage"
    assert told(ours, {}) == "no layer can be compared: the traces share no layer: ['a'] and []"
    assert told(ours, {"a": np.zeros((1, 3))}).startswith("no layer can be compared: layer 'a' has shape (1, 2)")


def test_the_probes_are_device_inputs_with_the_extremes_last() -> None:
    clean = grid_codes(5, (4, 4, 1))
    probes = probe_inputs(IMAGE_GRID, clean, 10, seed=0)
    assert probes.dtype == np.uint8
    np.testing.assert_array_equal(probes[:5], clean)
    extremes = probes[-EXTREMES:].reshape(EXTREMES, 16).astype(int)
    assert [set(np.unique(row)) for row in extremes[:4]] == [{0}, {255}, {0, 255}, {0, 255}]
    np.testing.assert_array_equal(extremes[2] + extremes[3], np.full(16, 255))
    assert len(probes) == 5 + 20 + EXTREMES
    np.testing.assert_array_equal(probes, probe_inputs(IMAGE_GRID, clean, 10, seed=0))
