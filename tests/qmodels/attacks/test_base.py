"""NaN, softmax and query counting; the losses; what a config may say."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from small_victims import Broken

from qmodels.attacks import Attack, Diagnostics, Problem, Square, distinct_labels, parse_attack
from qmodels.attacks.apgd import checkpoints
from qmodels.attacks.base import _REGISTERED
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


def test_attacks_of_one_kind_are_told_apart_by_what_differs() -> None:
    few, many = (parse_attack({"kind": "pgd-linf", "steps": steps}) for steps in (20, 40))
    fgsm = parse_attack({"kind": "fgsm"})
    labels = distinct_labels([few, many, fgsm, parse_attack({"kind": "pgd-linf", "steps": 20})])
    assert list(labels.values()) == ["pgd-linf(steps=20)", "pgd-linf(steps=40)", "fgsm"]
    assert few.digest != many.digest and labels[few.digest] == "pgd-linf(steps=20)"
    assert distinct_labels([many]) == {many.digest: "pgd-linf"}


def test_a_new_attack_is_one_class(victims: dict[str, Victim], images: Split) -> None:
    class Invert(Attack):
        """Shows the negative."""

        kind: ClassVar[str] = "invert"
        share: float = 1.0

        def run(self, problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, Diagnostics]:
            return (1 - self.share) * problem.clean + self.share * (255.0 - problem.clean), Diagnostics()

    try:
        attack = parse_attack({"kind": "invert", "share": 0.5})
        assert attack == Invert(share=0.5) and attack.model_dump() == {"kind": "invert", "share": 0.5}
        result = attack(victims["float"], *images, epsilon_lsb=30, seed=0)
        assert 0 < np.abs(result.x.astype(int) - images.x).max() <= 30
        with pytest.raises(TypeError, match="'invert' is taken by"):
            type(
                "Other", (Attack,), {"kind": "invert", "__annotations__": {"kind": "ClassVar[str]"}, "__module__": "x"}
            )
    finally:
        _REGISTERED.pop("invert", None)


@pytest.mark.parametrize("x", [np.zeros((2, 8, 8, 1), np.float32), np.full((2, 8, 8, 1), 300)])
def test_inputs_that_are_no_codes_are_refused(x: np.ndarray, victims: dict[str, Victim]) -> None:
    with pytest.raises(UserError, match=r"integer codes of InputGrid|codes of ufixed<8,0,TRN,WRAP> are 0..255"):
        parse_attack({"kind": "fgsm"})(victims["float"], x, np.zeros(2, np.int64), epsilon_lsb=3, seed=0)


@pytest.mark.parametrize("kind", ["cw-l2", "cw-linf", "ead"])
def test_an_image_that_is_wrong_already_has_no_zero_gradient(
    kind: str, victims: dict[str, Victim], images: Split
) -> None:
    x, y = images.take(6)
    found = parse_attack({"kind": kind, "steps": 2})(victims["quantized"], x, (y + 1) % 10, epsilon_lsb=np.inf, seed=0)
    assert found.success.all() and found.diagnostics.zero_gradient_share == 0.0
