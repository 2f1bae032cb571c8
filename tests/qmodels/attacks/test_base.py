"""NaN, softmax and query counting; the losses; what a config may say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_victims import Broken

from qmodels.attacks import Square, parse_attack
from qmodels.attacks.apgd import checkpoints
from qmodels.data import Split
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID
from qmodels.losses import LossName, loss_function
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim, Victim


@pytest.mark.parametrize("kind", ["uniform", "square", "hopskipjump-linf", "nes-pgd"])
def test_a_nan_output_is_no_success_and_is_noted(kind: str, victims: dict[str, Victim], images: Split) -> None:
    broken = Broken(victims["quantized"])
    result = parse_attack({"kind": kind})(broken, *images, epsilon_lsb=5, seed=0)
    finite = np.isfinite(broken.logits(result.x)).all(axis=1)
    assert not (result.success & ~finite).any()
    assert result.diagnostics.non_finite_share > 0


def test_softmax_outputs_are_recognised(victims: dict[str, Victim], images: Split) -> None:
    class Probabilities:
        name = "bitsim"
        grid = IMAGE_GRID

        def logits(self, x: np.ndarray) -> np.ndarray:
            weights = np.exp(victims["float"].logits(x))
            return weights / weights.sum(axis=1, keepdims=True)

    noise = parse_attack({"kind": "uniform"})
    assert noise(Probabilities(), *images, epsilon_lsb=4, seed=0).diagnostics.softmax_outputs
    assert not noise(victims["float"], *images, epsilon_lsb=4, seed=0).diagnostics.softmax_outputs


def test_accuracy_falls_with_the_queries_spent(victims: dict[str, Victim], images: Split) -> None:
    result = Square(queries=300)(victims["quantized"], *images, epsilon_lsb=24, seed=0)
    curve = [result.accuracy_after(queries) for queries in (0, 1, 10, 100, 300)]
    assert curve[0] == 1.0 and curve[-1] == result.accuracy
    assert curve == sorted(curve, reverse=True) and len(set(curve)) > 2
    fgsm = parse_attack({"kind": "fgsm"})(victims["quantized"], *images, epsilon_lsb=24, seed=0)
    with pytest.raises(ValueError, match="only black-box attacks"):
        fgsm.accuracy_after(10)


def test_a_curve_over_epsilons_falls(victims: dict[str, Victim], images: Split) -> None:
    curve = parse_attack({"kind": "bim", "steps": 10}).curve(
        victims["quantized"], *images, epsilons=[1, 8, 16, 32, 255], seed=0
    )
    accuracies = [result.accuracy for result in curve]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [result.epsilon_lsb for result in curve] == [1, 8, 16, 32, 255]


def test_losses_on_known_logits() -> None:
    tf = runtime().tf
    logits, y, target = tf.constant([[4.0, 1.0, 3.0, 0.0]]), tf.constant([0]), tf.constant([3])
    wanted: dict[LossName, float] = {
        "margin": -1.0,
        "dlr": -1.0 / 3.0,
        "dlr-targeted": -4.0 / (4.0 - 0.5),
        "ce": float(-np.log(np.exp(4) / np.exp([4.0, 1, 3, 0]).sum())),
        "ce-probabilities": float(-np.log(np.exp(4) / np.exp([4.0, 1, 3, 0]).sum())),
        "ce-rescaled": float(-np.log(np.exp(10) / np.exp(np.array([4.0, 1, 3, 0]) * 2.5).sum())),
    }
    for name, value in wanted.items():
        assert float(loss_function(name)(logits, y, target)[0]) == pytest.approx(value, rel=1e-4), name


def test_large_logits_hide_the_gradient_from_probabilities_only(victims: Any, images: Split) -> None:
    keras = runtime().keras
    inner = victims["float"].model
    sure = keras.Model(inner.input, keras.layers.Rescaling(100.0)(inner.output))
    victim = KerasVictim(sure, "float")

    def attacked(loss: str) -> Any:
        return parse_attack({"kind": "fgsm", "loss": loss})(victim, *images, epsilon_lsb=24, seed=0)

    naive = attacked("ce-probabilities")
    assert naive.diagnostics.zero_gradient_share > 0.5 and naive.diagnostics.softmax_outputs
    for loss in ("margin", "dlr", "ce-rescaled"):
        honest = attacked(loss)
        assert honest.diagnostics.zero_gradient_share < 0.05
        assert honest.accuracy < naive.accuracy


def test_unknown_settings_are_named() -> None:
    with pytest.raises(UserError, match="stepz"):
        parse_attack({"kind": "pgd-linf", "stepz": 3})
    with pytest.raises(UserError, match=r"unknown attack 'pgd'; did you mean 'pgd-l2'\?.*'?pgd-linf"):
        parse_attack({"kind": "pgd"})


def test_apgd_checkpoints_are_the_papers() -> None:
    """Fractions 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of the steps (Croce & Hein 2020, section 3.2)."""
    windows = checkpoints(100)
    ends = np.flatnonzero(windows)
    np.testing.assert_array_equal(ends, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(np.cumsum(windows[ends]), ends)
