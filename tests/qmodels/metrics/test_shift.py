"""Quantization shift, amplification, gradient agreement and boundary distance on networks small enough to check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.metrics.distance import BoundaryDistance, change_lengths
from qmodels.metrics.shift import amplification, gradient_agreement, quantization_shift, zero_gradient_share
from qmodels.runtime import runtime
from qmodels.victims import GradientModel


def linear(weights: list[list[float]], name: str = "fc") -> Any:
    """x @ weights, two inputs, logits out."""
    keras = runtime().keras
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(len(weights[0]), use_bias=False, name=name)])
    model.set_weights([np.array(weights, np.float32)])
    return model


def test_quantization_shift_of_a_known_step() -> None:
    q, keras = runtime().qkeras, runtime().keras
    model = keras.Sequential([keras.Input((1,)), q.QActivation("quantized_relu(2,1)", name="relu")])  # steps of 0.5
    clean = np.array([[0.5], [0.5], [0.5], [-0.5]], np.float32)
    attacked = np.array([[0.625], [1.0], [0.5], [-0.25]], np.float32)  # absorbed; passed; none, also none after ReLU
    (shift,) = quantization_shift(model, clean, attacked)
    assert (shift.layer, shift.mean, shift.absorbed_share) == ("relu", 0.5, 0.5)


def test_amplification_of_a_linear_layer() -> None:
    clean, attacked = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 0.5]], np.float32)
    (row,) = amplification(linear([[1.0, 0.0], [0.0, 1.0]]), linear([[1.0, 0.0], [0.0, 3.0]]), clean, attacked)
    assert (row.layer, row.reference, row.quantized) == ("fc", 0.5, 1.5)


def source(weights: list[list[float]]) -> GradientModel:
    return GradientModel(linear(weights))


def test_gradient_agreement_of_equal_opposite_and_dead_gradients() -> None:
    x, y = np.ones((4, 2), np.uint8), np.zeros(4, np.int64)
    model = source([[1.0, -1.0], [2.0, -1.0]])
    same = gradient_agreement(model, source([[2.0, -2.0], [4.0, -2.0]]), x, y, "margin")
    assert same.cosine == pytest.approx(1.0) and same.sign == 1.0
    turned = gradient_agreement(model, source([[-1.0, 1.0], [-2.0, 1.0]]), x, y, "margin")
    assert turned.cosine == pytest.approx(-1.0) and turned.sign == 0.0
    dead = gradient_agreement(model, source([[0.0, 0.0], [0.0, 0.0]]), x, y, "margin")
    assert (dead.zero_share_reference, dead.zero_share_quantized, dead.cosine) == (0.0, 1.0, 0.0)
    assert zero_gradient_share(source([[0.0, 0.0], [0.0, 0.0]]), x, y) == 1.0


def images(*steps: list[int]) -> np.ndarray:
    return np.array(steps, np.uint8)


def test_boundary_distance_is_the_per_sample_minimum_over_successes() -> None:
    clean, distance = np.zeros((4, 2), np.uint8), BoundaryDistance(4)
    few, small = images([10, 0], [1, 1], [0, 0], [0, 0]), images([4, 4], [3, 4], [200, 200], [0, 1])
    distance.add("few", np.array([True, False, False, True]), change_lengths(few, clean))
    distance.add("small", np.array([True, True, False, True]), change_lengths(small, clean))
    np.testing.assert_array_equal(distance.lengths["l0"], [1, 2, np.inf, 0])
    np.testing.assert_array_equal(distance.lengths["l1"], [8, 7, np.inf, 0])
    np.testing.assert_array_equal(distance.lengths["l2"], [np.sqrt(32), 5, np.inf, 0])
    np.testing.assert_array_equal(distance.lengths["linf"], [4, 4, np.inf, 0])
    assert list(distance.attack["l0"]) == ["few", "small", "", "few"]
    summary = distance.summary(right=np.array([True, True, True, False]))  # the last is wrong without any change
    assert (summary["images_right_when_clean"], summary["images_fooled"]) == (3, 2)
    assert (summary["median_l1_lsb"], summary["median_l0_values"]) == (8, 2)
    assert summary["nearest_l0_found_by"] == {"few": 1, "small": 1}
    assert distance.summary(right=np.array([True, False, True, False]))["median_l2_lsb"] is None  # one of two: infinite


def test_boundary_distance_takes_attacks_on_fewer_and_on_more_images() -> None:
    distance = BoundaryDistance(2)
    one, three = np.zeros((1, 2), np.uint8), np.zeros((3, 2), np.uint8)
    distance.add("one", np.array([True]), change_lengths(images([9, 0]), one))
    distance.add("three", np.ones(3, bool), change_lengths(images([0, 5], [0, 6], [0, 1]), three))
    np.testing.assert_array_equal(distance.lengths["linf"], [5, 6])
    assert distance.summary(right=np.ones(3, bool))["images_fooled"] == 2
