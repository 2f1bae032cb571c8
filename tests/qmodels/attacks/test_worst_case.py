"""The worst case resumes per sample and keeps what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_victims import OutputsOnly

from qmodels.attacks import WorstCase, parse_attack
from qmodels.attacks.worst_case import CLEAN_ERROR, NOT_FALLEN
from qmodels.data import Split
from qmodels.victims import Victim, predictions

MEMBERS = [
    {"kind": "apgd-ce", "steps": 20},
    {"kind": "square", "queries": 100},
    {"kind": "hopskipjump-linf", "queries": 60},
]


@pytest.fixture
def worst() -> WorstCase:
    attack = parse_attack({"kind": "worst-case", "attacks": MEMBERS, "batch": 15})
    assert isinstance(attack, WorstCase)
    return attack


def evaluate(worst: WorstCase, victim: Any, images: Split, state: Path | None = None) -> Any:
    return worst.evaluate(victim, *images, epsilon_lsb=20, seed=3, state=state)


class Stops:
    """A victim that fails after so many questions, as a killed run would."""

    def __init__(self, inner: Any, questions: int) -> None:
        self.inner, self.gradient_model, self.grid = inner, inner.gradient_model, inner.grid
        self.name, self.left = inner.name, questions

    def logits(self, x: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.logits(x)


@pytest.mark.parametrize("questions", [3, 60, 150])
def test_a_stopped_run_goes_on_where_it_was(
    questions: int, worst: WorstCase, victims: dict[str, Victim], images: Split, tmp_path: Path
) -> None:
    whole = evaluate(worst, victims["accelerator"], images)
    state = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        evaluate(worst, Stops(victims["accelerator"], questions), images, state)
    resumed = evaluate(worst, victims["accelerator"], images, state)
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(resumed, name), value, err_msg=name)
    finished = evaluate(worst, Stops(victims["accelerator"], 0), images, state)  # asks nothing any more
    np.testing.assert_array_equal(finished.x, whole.x)


def test_a_damaged_or_foreign_state_is_not_used(
    worst: WorstCase, victims: dict[str, Victim], images: Split, tmp_path: Path
) -> None:
    state = tmp_path / "state.npz"
    state.write_bytes(b"PK\x03\x04 nonsense")
    first = evaluate(worst, victims["accelerator"], images, state)
    other = worst.evaluate(victims["accelerator"], *images, epsilon_lsb=2, seed=3, state=state)
    assert np.sum(other.fell_to == NOT_FALLEN) > np.sum(first.fell_to == NOT_FALLEN)


def test_the_record_tells_the_truth(worst: WorstCase, victims: dict[str, Victim], images: Split) -> None:
    victim = victims["accelerator"]
    record = evaluate(worst, victim, images)
    answers = predictions(victim, record.x)
    np.testing.assert_array_equal(answers == images.y, record.fell_to == NOT_FALLEN)
    np.testing.assert_array_equal(record.fell_to == CLEAN_ERROR, predictions(victim, images.x) != images.y)
    assert (record.through == len(MEMBERS)).all()


def test_without_gradients_the_black_box_attacks_run(
    worst: WorstCase, victims: dict[str, Victim], images: Split
) -> None:
    result = worst(OutputsOnly(victims["quantized"]), *images, epsilon_lsb=20, seed=0)
    full = worst(victims["accelerator"], *images, epsilon_lsb=20, seed=0)
    assert full.accuracy <= result.accuracy < 1.0
