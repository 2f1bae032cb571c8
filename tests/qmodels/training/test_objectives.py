from __future__ import annotations

import numpy as np
import pytest
from tiny_training import digits, tiny_config, tiny_model

from qmodels.runtime import runtime
from qmodels.training import AdversarialConfig
from qmodels.training.objectives import objective


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def probabilities(model, x):
    return softmax(model(x).numpy().astype(np.float64))


@pytest.fixture(scope="module")
def batch():
    x, y = digits().train.take(32)
    attacked = np.clip(x + np.random.default_rng(0).normal(0, 0.2, x.shape), 0, 1).astype(np.float32)
    model = tiny_model()
    clean_p, attacked_p = probabilities(model, x), probabilities(model, attacked)
    rows = np.arange(32)
    clean_ce, attacked_ce = -np.log(clean_p[rows, y]).mean(), -np.log(attacked_p[rows, y]).mean()
    divergence = (clean_p * np.log(clean_p / attacked_p)).sum(axis=1).mean()
    return model, x, attacked, y, clean_ce, attacked_ce, divergence


def value(config, batch):
    tf = runtime().tf
    model, *arrays = batch[:4]
    return float(objective(config)(model, *(tf.constant(array) for array in arrays)))


def test_standard_and_feedback_minimise_the_clean_cross_entropy(batch):
    for method in ("standard", "feedback"):
        assert value(tiny_config(method), batch) == pytest.approx(batch[4], rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_adversarial_mixes_clean_and_attacked_cross_entropy(batch, weight):
    config = tiny_config("adversarial", adversarial=AdversarialConfig(clean_weight=weight))
    assert value(config, batch) == pytest.approx(weight * batch[4] + (1 - weight) * batch[5], rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_trades_adds_beta_times_the_divergence(batch, beta):
    config = tiny_config("trades", adversarial=AdversarialConfig(beta=beta))
    assert batch[6] > 0.01
    assert value(config, batch) == pytest.approx(batch[4] + beta * batch[6], rel=1e-4)
