"""Ensemble and Sinkhorn adversarial training, distillation: what they minimise, and what they need besides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tiny_training import digits, same_weights, tiny_config, tiny_model

from qmodels.runtime import runtime
from qmodels.training import DistillationConfig, EnsembleConfig, SinkhornConfig, train, train_static
from qmodels.training.objectives import objective
from qmodels.training.transport import sinkhorn_distance, transport_plan


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([1e-2, 1.0, 1e4]))
def test_a_plan_has_its_marginals_whatever_the_costs(seed, scale):
    cost = np.random.default_rng(seed).uniform(0, scale, (7, 7)).astype(np.float32)
    plan = transport_plan(runtime().tf.constant(cost), max(scale, 1.0), 40).numpy()
    assert np.isfinite(plan).all()
    assert plan.sum(axis=0) == pytest.approx(np.full(7, 1 / 7), rel=1e-4)
    assert plan.sum(axis=1) == pytest.approx(np.full(7, 1 / 7), rel=1e-2)


def test_with_little_regularization_it_is_the_best_assignment():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(9, 3)).astype(np.float32) for _ in range(2))
    cost = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    best = cost[linear_sum_assignment(cost)].mean()
    assert float(sinkhorn_distance(first, second, 0.03, 300)) == pytest.approx(best, rel=3e-2)
    assert float(sinkhorn_distance(first, second, 10.0, 50)) > best


def test_enormous_logits_do_not_break_it():
    first = np.array([[1e6, 0], [0, 1e6]], np.float32)
    assert float(sinkhorn_distance(first, first[::-1].copy(), 1.0, 50)) == 0.0


def value(method, clean, attacked, y, static=(), **changes):
    found = objective(tiny_config(method, **changes), static)(tiny_model(), clean, attacked, y)
    return float(found)


def test_sinkhorn_adds_the_weighted_distance_to_the_attacked_cross_entropy():
    x, y = digits().train.take(20)
    clean = digits().train.grid.to_values(x)
    attacked = np.clip(clean + np.random.default_rng(0).normal(0, 0.2, clean.shape), 0, 1).astype(np.float32)
    hard = value("adversarial", clean, attacked, y)
    apart = float(sinkhorn_distance(tiny_model()(clean), tiny_model()(attacked), 1.0, 50))
    assert apart > 1e-3
    for weight in (0.0, 3.0):
        found = value("sinkhorn", clean, attacked, y, sinkhorn=SinkhornConfig(weight=weight))
        assert found == pytest.approx(hard + weight * apart, rel=1e-4)


def test_distillation_follows_the_teacher_at_the_temperature():
    x, y = digits().train.take(20)
    clean = digits().train.grid.to_values(x)
    tf, teacher, own = runtime().tf, tiny_model(5), DistillationConfig(temperature=8, alpha=0.25)
    logits = tiny_model()(clean).numpy() / 8
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    soft = tf.nn.softmax(teacher(clean) / 8).numpy()
    wanted = np.mean(-0.25 * log_p[np.arange(20), y] - 0.75 * (soft * log_p).sum(axis=1))
    found = value("distillation", clean, clean, y, [teacher], distillation=own)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert value("tempered", clean, clean, y, distillation=own) == pytest.approx(
        np.mean(-log_p[np.arange(20), y]), rel=1e-5
    )


def test_a_distilled_model_has_large_logits(tmp_path):
    plain, distilled = tiny_model(), tiny_model()
    train(plain, tiny_config(epochs=15), *parts(), seed=0, checkpoint_dir=tmp_path / "plain")
    config = tiny_config("distillation", epochs=25, learning_rate=0.02)
    train(distilled, config, *parts(), seed=0, checkpoint_dir=tmp_path, static=static_of(config, tmp_path))
    values = digits().test.values
    spread = [float(np.mean(np.ptp(model(values).numpy(), axis=1))) for model in (plain, distilled)]
    assert spread[1] > 3 * spread[0]
    assert np.mean(distilled(values).numpy().argmax(axis=1) == digits().test.y) > 0.8


def parts():
    return digits().train, digits().validation


def static_of(config, folder):
    return train_static(tiny_model, config, *parts(), seed=0, checkpoint_dir=folder)


def test_an_ensemble_trains_its_static_models_once_and_leaves_them_alone(tmp_path):
    config = tiny_config("ensemble", epochs=1, ensemble=EnsembleConfig(epochs=1))
    first, second = static_of(config, tmp_path)
    assert not same_weights(first, second)
    before = first.get_weights()
    model = tiny_model()
    report = train(model, config, *parts(), seed=0, checkpoint_dir=tmp_path, static=[first, second])
    assert report.history[-1].validation_pgd_accuracy is not None
    assert all(np.array_equal(a, b) for a, b in zip(before, first.get_weights(), strict=True))
    again = static_of(config, tmp_path)
    assert same_weights(again[0], first) and same_weights(again[1], second)
    alone = tiny_model()
    train(alone, tiny_config("adversarial", epochs=1), *parts(), seed=0, checkpoint_dir=tmp_path / "alone")
    assert not same_weights(alone, model)  # it has seen other examples


def test_the_number_of_static_models_is_checked(tmp_path):
    with pytest.raises(ValueError, match="ensemble needs 2 static models, got 0"):
        train(tiny_model(), tiny_config("ensemble"), *parts(), seed=0, checkpoint_dir=tmp_path)
    assert static_of(tiny_config("trades"), tmp_path) == []
