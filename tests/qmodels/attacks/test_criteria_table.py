"""Every kind of attack against every criterion, on little models as they are initialised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qmodels.attacks import Attack, attack_kinds, parse_attack
from qmodels.criteria import AnomalyScore, Deviation, GroupMisclassification, Targeted
from qmodels.grid import IMAGE_GRID
from qmodels.metrics.distance import change_lengths
from qmodels.runtime import runtime, set_seed
from qmodels.tasks import Task
from qmodels.victims import KerasVictim, Victim

FEW: dict[str, dict[str, Any]] = {
    "cw-l2": {"steps": 30, "rate": 0.05, "initial_weight": 1.0, "binary_steps": 4},
    "cw-linf": {"steps": 20, "rounds": 4, "initial_weight": 1.0},
    "ead": {"steps": 30, "binary_steps": 4, "initial_weight": 1.0},
    "jsma": {"theta": 0.5},
    "worst-case": {"attacks": [{"kind": "apgd-ce", "steps": 8}, {"kind": "square", "queries": 40}]},
}
COUNT = 12


def settings(kind: str) -> Attack:
    """The attack with little work to do."""
    fields = type(parse_attack({"kind": kind})).model_fields
    small = {"steps": 12, "queries": 60} if kind not in ("fgsm", "jsma", "deepfool") else {}
    chosen = {key: value for key, value in small.items() if key in fields}
    return parse_attack({"kind": kind} | chosen | FEW.get(kind, {}))


def victim_of(outputs: int) -> KerasVictim:
    keras = runtime().keras
    set_seed(3)
    image = keras.Input((8,))
    hidden = keras.layers.Dense(12, activation="relu")(image)
    return KerasVictim(keras.Model(image, keras.layers.Dense(outputs)(hidden)), "float")


@pytest.fixture(scope="module")
def cases() -> dict[str, tuple[Task, Victim, np.ndarray, np.ndarray]]:
    """Task, the victim as it sees it, inputs, and what is right; every input withstands as it is."""
    x = IMAGE_GRID.random(400, (8,), np.random.default_rng(0))
    many, one, two, rebuild = (victim_of(count) for count in (4, 1, 2, 8))
    classes = many.logits(x).argmax(axis=1)
    scores = np.mean((rebuild.logits(x) - IMAGE_GRID.to_values(x)) ** 2, axis=1)
    target = int(np.bincount(classes, minlength=4).argmax())
    middle = float(np.median(scores))
    found: dict[str, tuple[Task, Victim, np.ndarray, np.ndarray]] = {}
    tasks = {
        "targeted": (Task("classes", Targeted(target=target)), many, classes),
        "groups": (Task("classes", GroupMisclassification(groups=((0, 1),))), many, classes),
        "binary": (Task("binary"), one, (one.logits(x)[:, 0] > 0).astype(np.int64)),
        "deviation": (Task("regression", Deviation(tolerance=0.05), "clean"), two, classes),
        "relative": (Task("regression", Deviation(tolerance=0.1, relative=True), "clean"), two, classes),
        "hide": (Task("anomaly", AnomalyScore(threshold=0.9 * middle, direction="hide")), rebuild, classes * 0 + 1),
        "alarm": (Task("anomaly", AnomalyScore(threshold=1.1 * middle, direction="alarm")), rebuild, classes * 0),
    }
    for name, (task, victim, y) in tasks.items():
        view = task.view(victim)
        right = task.right(view, x, y)
        rows = np.flatnonzero(~task.criterion.wrong(view.logits(x), right))[:COUNT]
        found[name] = task, view, x[rows], right[rows]
    return found


NAMES = ["targeted", "groups", "binary", "deviation", "relative", "hide", "alarm"]
#: Of 8 inputs they change two in a step, or look for a first success in random noise: they may find none.
MAY_FAIL = {"jsma", "hopskipjump", "hopskipjump-linf", "boundary", "geoda"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", attack_kinds())
def test_every_attack_on_every_criterion(kind: str, name: str, cases: dict[str, Any]) -> None:
    task, view, x, right = cases[name]
    attack = settings(kind)
    assert len(x) == COUNT
    epsilon = float("inf") if attack.family == "minimal-norm" else 48 if attack.norm == "linf" else 96
    result = attack(view, x, right, epsilon_lsb=epsilon, seed=1, criterion=task.criterion)
    assert result.x.dtype == np.uint8 and change_lengths(result.x, x)[attack.norm].max() <= epsilon
    np.testing.assert_array_equal(result.success, task.criterion.fooled(view.logits(result.x), right))
    if attack.family in ("gradient", "minimal-norm", "score", "worst-case") and kind not in MAY_FAIL:
        assert result.success.any(), result


@pytest.mark.parametrize("name", NAMES)
def test_an_unbounded_gradient_attack_moves_nearly_every_input(name: str, cases: dict[str, Any]) -> None:
    task, view, x, right = cases[name]
    attack = parse_attack({"kind": "apgd-ce", "steps": 40, "restarts": 3})
    result = attack(view, x, right, epsilon_lsb=float("inf"), seed=1, criterion=task.criterion)
    assert result.accuracy <= 0.25, result


def test_a_step_from_the_clean_input_of_a_regression_is_no_step_into_nowhere(cases: dict[str, Any]) -> None:
    """On the reference itself the distance has a minimum; its gradient must not be zero there."""
    task, view, x, right = cases["deviation"]
    result = parse_attack({"kind": "fgsm"})(view, x, right, epsilon_lsb=32, seed=0, criterion=task.criterion)
    assert result.diagnostics.zero_gradient_share == 0.0 and result.accuracy < 0.5


def test_an_attack_that_sees_decisions_begins_at_inputs_of_the_attackers_own(cases: dict[str, Any]) -> None:
    """Anomalies only, which noise does not hide either: without a start there is nothing to walk from."""
    task, view, x, right = cases["hide"]
    every = IMAGE_GRID.random(400, (8,), np.random.default_rng(1))
    hidden = every[task.criterion.fooled(view.logits(every), np.ones(400))][:5]
    low = AnomalyScore(threshold=float(view.logits(hidden).max()), direction="hide")
    attack = parse_attack({"kind": "hopskipjump-linf", "queries": 60})
    result = attack(view, x, right, epsilon_lsb=float("inf"), seed=0, criterion=low, starts=hidden)
    assert result.accuracy == 0.0 and result.queries <= 70 * len(x) + 5
