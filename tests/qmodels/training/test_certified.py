"""Certified training: bounds that hold, and a training that raises what they prove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import tiny_config, tiny_model

from qmodels.architectures import ModelConfig, build_float
from qmodels.attacks.ball import Ball
from qmodels.data import load_data
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.quantize.mulaw import MappingConfig
from qmodels.runtime import runtime
from qmodels.training import TrainingConfig, train
from qmodels.training.aware import quantization_aware, train_aware
from qmodels.training.config import QuantizationAwareConfig
from qmodels.training.intervals import Interval, _through, check_bounded, margin_bounds
from qmodels.training.objectives import objective

SHAPE = (8, 8, 1)
CNN = ModelConfig(architecture="cnn4", filters=(4, 6), hidden=(12,))
KINDS: dict[str, dict[str, Any]] = {
    "cnn4": {"architecture": "cnn4", "filters": (4, 6), "hidden": (12,)},
    "binary input, strides": {
        "architecture": "cnn4", "filters": (4, 6), "hidden": (12,), "binary_input": True, "downsampling": "stride"
    },
    "cnn": {
        "architecture": "cnn", "filters": (5,), "kernel_size": 4, "stride": 2, "padding": "valid", "hidden": (12, 8)
    },
    "mlp": {"architecture": "mlp", "hidden": (12, 8)},
    "mobilenet": {"architecture": "mobilenet_v1_025", "width": 0.5},
}  # fmt: skip


def corners(model: Any, x: np.ndarray, epsilon: int) -> Interval:
    ends = Ball(IMAGE_GRID, x, "linf", epsilon).box
    return Interval(*(runtime().tf.constant(IMAGE_GRID.to_values(end)) for end in ends))


def proved_share(model: Any, x: np.ndarray, y: np.ndarray, epsilon: int) -> float:
    """Of inputs whose bounds leave no other class."""
    margins = margin_bounds(model, corners(model, x, epsilon), runtime().tf.constant(y)).numpy()
    margins[np.arange(len(y)), y] = 1
    return float((margins.min(1) > 0).mean())


def assert_bounds_hold(model: Any, epsilon: int, rng: np.random.Generator) -> None:
    """Random points of each ball, its corners included, keep to the margins' lower bounds."""
    x = IMAGE_GRID.random(6, model.input_shape[1:], rng)
    y = model(IMAGE_GRID.to_values(x), training=False).numpy().argmax(1)
    bounds = margin_bounds(model, corners(model, x, epsilon), runtime().tf.constant(y)).numpy()
    ball = Ball(IMAGE_GRID, x, "linf", epsilon)
    lower, upper = ball.box
    points = [ball.project(ball.random(rng)) for _ in range(60)]
    points += [np.where(rng.random(x.shape) < 0.5, lower, upper), lower, upper]
    together = IMAGE_GRID.to_values(np.concatenate(points))  # the model is called once: layer by layer that takes long
    logits = model(together, training=False).numpy().reshape(len(points), len(x), -1)
    margins = np.take_along_axis(logits, y[None, :, None], 2) - logits
    assert (margins >= bounds - 1e-3 * (1 + np.abs(bounds))).all()
    assert np.allclose(np.take_along_axis(bounds, y[:, None], 1), 0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_in_the_ball_and_are_exact_at_radius_zero(kind: str) -> None:
    rng = np.random.default_rng(1)
    shape = (16, 16, 3) if kind == "mobilenet" else SHAPE
    model = build_float(ModelConfig(**KINDS[kind]), shape, 10, seed=3)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":  # as trained ones are
            layer.set_weights([rng.normal(1, 0.3, w.shape).clip(0.1) for w in layer.get_weights()])
    check_bounded(model)
    assert_bounds_hold(model, 6, rng)
    x = IMAGE_GRID.random(4, shape, rng)
    logits = model(IMAGE_GRID.to_values(x), training=False).numpy()
    y = np.arange(4)
    bounds = margin_bounds(model, corners(model, x, 0), runtime().tf.constant(y)).numpy()
    assert np.allclose(bounds, np.take_along_axis(logits, y[:, None], 1) - logits, atol=1e-3)


def test_bounds_hold_through_the_quantizers() -> None:
    rng = np.random.default_rng(2)
    model = build_float(CNN, SHAPE, 10, seed=4)
    values = IMAGE_GRID.to_values(IMAGE_GRID.random(100, SHAPE, rng))
    formats = quantize_model(model, QuantizationConfig(weight_bits=3, activation_bits=4), values).formats
    aware = quantization_aware(model, {item.layer: item for item in formats}, MappingConfig())
    assert_bounds_hold(aware, 6, rng)


def test_a_weight_rounded_to_zero_feels_the_width_it_would_bring() -> None:
    tf, keras = runtime().tf, runtime().keras
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="fc")(keras.layers.Activation("linear", name="input_grid")(inputs))
    model = keras.Model(
        inputs, keras.layers.Dense(2, name="logits")(keras.layers.Activation("relu", name="relu")(hidden))
    )
    formats = quantize_model(model, QuantizationConfig(weight_bits=3), np.ones((8, 4), np.float32)).formats
    aware = quantization_aware(model, {item.layer: item for item in formats}, MappingConfig())
    kernel = aware.get_layer("fc").kernel
    step = float(next(item.code.step for item in formats if item.layer == "fc" and item.code is not None))
    latent = np.array([[0.4, -0.4, 1.0], [-0.2, 0.1, -1.0], [0.3, 0.3, 2.0], [-0.1, -0.3, 1.0]], np.float32) * step
    kernel.assign(latent)
    with tf.GradientTape() as tape:
        found = _through(aware.get_layer("fc"), [Interval(-tf.ones((1, 4)), tf.ones((1, 4)))])
        width = tf.reduce_sum(found.upper - found.lower)
    assert float(width) == pytest.approx(2 * 5 * step)  # of the third column alone: the others are rounded to zero
    assert np.array_equal(tape.gradient(width, kernel), 2 * np.sign(latent))


def test_without_a_clean_share_the_clean_inputs_are_not_looked_at() -> None:
    model = build_float(CNN, SHAPE, 10, seed=0)
    x, y = load_data("digits", seed=0).train.take(8)
    ends = np.stack([IMAGE_GRID.to_values(x)] * 2)
    nothing, tf = np.full(x.shape, np.nan, np.float32), runtime().tf
    losses = {}
    for share in (0.0, 0.5):
        config = TrainingConfig(method="certified", adversarial={"epsilon_lsb": 8, "clean_weight": share})
        losses[share] = float(
            objective(config, (), tf.constant(share))(model, nothing, tf.constant(ends), tf.constant(y))
        )
    logits = model(IMAGE_GRID.to_values(x)).numpy().astype(np.float64)
    plain = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), y]).mean()
    assert losses[0.0] == pytest.approx(plain, rel=1e-4)  # of a ball that is a point
    assert np.isnan(losses[0.5])


def test_it_proves_more_than_adversarial_training_and_goes_on_through_fewer_bits(tmp_path: Path) -> None:
    data = load_data("digits", seed=0)
    shared = {"epochs": 12, "learning_rate": 3e-3}
    proved = {}
    for method in ("certified", "adversarial"):
        model = build_float(CNN, SHAPE, 10, seed=0)
        settings = {"epsilon_lsb": 8, "warmup_epochs": 6, "steps": 2, "validation_samples": 200}
        config = TrainingConfig(method=method, adversarial=settings, **shared)
        train(model, config, data.train, data.validation, seed=0, checkpoint_dir=tmp_path / method)
        x, y = data.test.take(200)
        proved[method] = proved_share(model, x, y, 8)
        if method == "certified":
            own = QuantizationAwareConfig(epochs=1, learning_rate=1e-3, weight_bits=(6,))
            config = config.model_copy(update={"quantization_aware": own})
            report, formats = train_aware(
                model, config, QuantizationConfig(weight_bits=4), MappingConfig(), data.train, data.validation,
                seed=0, checkpoint_dir=tmp_path / "aware",
            )  # fmt: skip
            assert report.epochs == 2 and len(report.history) == 2  # one at 6 bits, one at 4
            assert formats["fc1"].code is not None and formats["fc1"].code.bits == 4
            assert all(record.validation_certified_accuracy is not None for record in report.history)
    assert proved["certified"] > proved["adversarial"] + 0.1, proved


def test_feedback_learning_through_bounds_proves_more_than_feedback_learning(tmp_path: Path) -> None:
    data = load_data("digits", seed=0)
    x, y = data.test.take(200)
    proved = {}
    for method in ("feedback", "feedback-certified"):
        model, config = tiny_model(), tiny_config(method, epochs=8, adversarial={"epsilon_lsb": 12, "warmup_epochs": 4})
        report = train(model, config, data.train, data.validation, seed=0, checkpoint_dir=tmp_path / method)
        assert [sum(round_.examples) > 0 for round_ in report.rounds] == [True] * config.rounds
        proved[method] = proved_share(model, x, y, 12)
        if method == "feedback-certified":
            rounds = [record for record in report.history if record.phase]
            assert rounds and {record.epsilon_lsb for record in rounds} == {12.0}
            assert all(record.validation_certified_accuracy is not None for record in report.history)
    assert proved["feedback-certified"] > proved["feedback"] + 0.1, proved


def test_a_layer_that_turns_the_order_round_is_told() -> None:
    keras = runtime().keras
    x = inputs = keras.Input((8,))
    softmax = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Activation("softmax", name="soft")(x)))
    with pytest.raises(UserError, match=r"activation softmax \('soft'\) has none"):
        check_bounded(softmax)
    with pytest.raises(UserError, match="must end in a Dense layer"):
        check_bounded(keras.Model(inputs, keras.layers.ReLU()(keras.layers.Dense(3)(x))))
