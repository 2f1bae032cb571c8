"""Masked gradients are caught, honest robustness is not accused: on models made to be the one and the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_victims import float_model

from qmodels.attacks import Attack, Ball, parse_attack
from qmodels.attacks.gradient import compiled_ascent
from qmodels.data import Dataset, Split
from qmodels.grid import IMAGE_GRID
from qmodels.metrics.masking import Row, attack_row, clean_row, scored_elsewhere, verdicts, with_flags
from qmodels.quantize.mulaw import MappingConfig, map_weights
from qmodels.runtime import runtime
from qmodels.victims import GradientModel, KerasVictim, predictions

EPSILON = 32
#: As many evaluations did it: one step on the cross-entropy of softmax outputs.
NAIVE = parse_attack({"kind": "fgsm", "loss": "ce-probabilities"})
STRONG = [
    parse_attack({"kind": "fgsm"}),
    parse_attack({"kind": "pgd-linf", "steps": 20}),
    parse_attack({"kind": "pgd-linf", "steps": 20, "loss": "dlr"}),
    parse_attack({"kind": "square", "queries": 300}),
]


def rows_of(name: str, model: Any, images: Split, attacks: list[Attack]) -> list[Row]:
    """Clean, every attack at epsilon, and PGD without a bound."""
    victim = KerasVictim(model, "float")
    rows = [clean_row(name, "float", predictions(victim, images.x) == images.y)]
    for attack in attacks:
        result = attack(victim, *images, epsilon_lsb=EPSILON, seed=0)
        doubled = attack.doubled() if hasattr(attack, "doubled") and attack.iterative else None
        twice = doubled(victim, *images, epsilon_lsb=EPSILON, seed=0) if doubled else None
        rows.append(attack_row(name, "float", attack, result, doubled=twice))
    unbounded = STRONG[1](victim, *images, epsilon_lsb=255, seed=0)
    return [*rows, attack_row(name, "float", STRONG[1], unbounded)]


def transferred(row: Row, source: Any, target: Any, images: Split) -> Row:
    """Examples of the naive attack on `source`, scored on `target`."""
    result = NAIVE(KerasVictim(source, "float"), *images, epsilon_lsb=EPSILON, seed=0)
    correct = predictions(KerasVictim(target, "float"), result.x) == images.y
    return scored_elsewhere(row, row.victim, correct, knowledge="transfer")


@pytest.fixture(scope="module")
def images(data: Dataset) -> Split:
    return data.test


def test_a_mapped_model_is_caught(data: Dataset, images: Split) -> None:
    """µ = 255 on all layers: one naive step finds no gradient, other attacks break it as ever."""
    plain = float_model(data, hidden=64)
    mapped, _ = map_weights(plain, MappingConfig(mu=255.0, layers=("fc1", "logits")))
    rows = rows_of("mapped", mapped, images, [NAIVE, *STRONG])
    naive = next(row for row in rows if row.attack == NAIVE.label)
    rows.append(transferred(naive, plain, mapped, images))
    flagged = {row.attack: set(row.flags) for row in with_flags(rows) if row.knowledge == "white-box"}
    assert flagged[NAIVE.label] >= {"zero-gradients", "softmax-outputs", "black-box-stronger"}
    verdict = next(v for v in verdicts(with_flags(rows)) if v.epsilon_lsb == EPSILON)
    assert not verdict.believable
    assert naive.accuracy > verdict.worst + 0.3  # the column looks robust, the model is not


def test_an_honest_adversarially_trained_model_is_not_accused(data: Dataset, images: Split) -> None:
    rows = rows_of("adversarial", adversarially_trained(data), images, STRONG)
    assert all(row.flags == () for row in with_flags(rows))
    verdict = next(v for v in verdicts(with_flags(rows)) if v.epsilon_lsb == EPSILON)
    assert verdict.believable and verdict.clean is not None
    assert 0.3 < verdict.worst < verdict.clean


def adversarially_trained(data: Dataset) -> Any:
    """PGD training in its simplest form (Madry 2018): each epoch on fresh examples."""
    keras = runtime().keras
    model = float_model(data, hidden=64)
    ascend = compiled_ascent(GradientModel(model), "ce", "linf")
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data.train
    rng = np.random.default_rng(0)
    for _ in range(25):
        start = x + rng.uniform(-EPSILON, EPSILON, x.shape).astype(np.float32)
        attacked = ascend(Ball(IMAGE_GRID, x, "linf", EPSILON), start, y, y, 7, EPSILON, 10.0, 0.0).x
        model.fit(IMAGE_GRID.to_values(attacked), y, epochs=1, batch_size=64, verbose=0)
    return model
