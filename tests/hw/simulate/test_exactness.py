"""The gate: one bit is enough to stop, and the message says where it begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers.models import Toolbox, grid_images

from hw.simulate.exactness import EXTREMES, Exactness, first_difference, probe_images, require_exact
from hw.simulate.model_trace import model_trace
from qmodels.errors import ExactnessError
from qmodels.victims import Images, KerasVictim, Logits


@dataclass
class Fixed:
    """Answers what it was given."""

    name: str
    answers: Logits

    def logits(self, x: Images) -> Logits:
        return self.answers[: len(x)]


X = grid_images(6, (2, 2, 1))
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
            *victims, grid_images(20), traces=(lambda x: model_trace(model, x), lambda x: model_trace(wrong, x))
        )


def test_layers_that_only_one_side_knows_are_passed_over() -> None:
    ours = {"a": np.zeros((1, 2)), "b": np.zeros((1, 2, 2)), "c": np.zeros((1, 1))}
    theirs = {"b": np.array([[0.0, 0.0, 0.5, 0.0]]), "c": np.ones((1, 1)), "d": np.ones(1)}
    assert first_difference(ours, theirs) == (
        f"first layer that differs: 'b', 1 of 4 elements, first at (0, 1, 0): {np.float64(0)!r} against "
        f"{np.float64(0.5)!r}"
    )
    assert first_difference(ours, {}) == "no traced layer differs: the difference is in the output stage"


def test_the_probes_are_device_inputs_with_the_extremes_last() -> None:
    clean = grid_images(5, (4, 4, 1))
    probes = probe_images((4, 4, 1), clean, 10, seed=0)
    steps = probes.astype(np.float64) * 256
    np.testing.assert_array_equal(steps, np.rint(steps))
    assert (steps.min(), steps.max()) == (0, 255)
    np.testing.assert_array_equal(probes[:5], clean)
    extremes = steps[-EXTREMES:].reshape(EXTREMES, 16)
    assert [set(np.unique(row)) for row in extremes[:4]] == [{0.0}, {255.0}, {0.0, 255.0}, {0.0, 255.0}]
    np.testing.assert_array_equal(extremes[2] + extremes[3], np.full(16, 255))
    assert len(probes) == 5 + 20 + EXTREMES
    np.testing.assert_array_equal(probes, probe_images((4, 4, 1), clean, 10, seed=0))
