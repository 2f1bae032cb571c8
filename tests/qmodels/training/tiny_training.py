"""Real digits, few of them, and models that train in a second."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from qmodels.architectures import ModelConfig, build_float
from qmodels.data import Dataset, load_data
from qmodels.training import AdversarialConfig, FeedbackConfig, TrainingConfig

METHODS = ("standard", "adversarial", "trades", "feedback", "feedback-adversarial", "feedback-certified")


@lru_cache(maxsize=1)
def digits() -> Dataset:
    return load_data("digits", seed=0)


def tiny_model(seed: int = 0) -> Any:
    return build_float(ModelConfig(architecture="mlp", hidden=(16,)), (8, 8, 1), 10, seed)


def tiny_config(method: str = "standard", **changes: Any) -> TrainingConfig:
    feedback = FeedbackConfig(
        high_samples=2,
        medium_samples=4,
        low_samples=6,
        rounds=2,
        epochs_per_round=2,
        probe_samples=3,
        round_learning_rate=1e-3,
    )
    adversarial = AdversarialConfig(epsilon_lsb=16, steps=2, warmup_epochs=1, validation_steps=3)
    settings = {"epochs": 3, "batch_size": 50, "feedback": feedback, "adversarial": adversarial, **changes}
    return TrainingConfig(method=method, **settings)


def same_weights(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
