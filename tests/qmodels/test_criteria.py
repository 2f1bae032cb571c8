"""Criteria: decision, margin and score tell the same, in NumPy and in TensorFlow; losses lead there."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from qmodels.criteria import (
    MISCLASSIFICATION,
    AnomalyScore,
    AnyCriterion,
    Criterion,
    Deviation,
    GroupMisclassification,
    Targeted,
)
from qmodels.heads import ReconstructionError, TwoClasses
from qmodels.losses import LossName
from qmodels.runtime import runtime
from qmodels.tasks import Task, anomaly_threshold, area_under_curve, regression_errors

GROUPS = GroupMisclassification(groups=((0, 2), (1, 3)))
CLASSES: list[Criterion] = [MISCLASSIFICATION, Targeted(target=1), GROUPS]
VALUES: list[Criterion] = [Deviation(tolerance=0.25), Deviation(tolerance=0.1, relative=True)]
SCORES: list[Criterion] = [
    AnomalyScore(threshold=0.5, direction="hide"),
    AnomalyScore(threshold=0.5, direction="alarm"),
]
#: Coarse numbers meet in ties and on borders; broken ones are there too.
REAL = st.one_of(st.sampled_from([0.0, 0.25, 0.5, -0.5, 1.0]), st.floats(-4, 4, width=16))
NUMBERS = st.one_of(REAL, st.sampled_from([float("nan"), float("inf")]))


def agree(criterion: Criterion, outputs: np.ndarray, y: np.ndarray) -> None:
    fooled, margins = criterion.fooled(outputs, y), criterion.margins(outputs, y)
    finite = np.isfinite(outputs).all(axis=1)
    np.testing.assert_array_equal(fooled, margins < 0)
    np.testing.assert_array_equal(np.isposinf(margins), ~finite)
    np.testing.assert_array_equal(criterion.wrong(outputs, y), fooled | ~finite)
    score = criterion.score(runtime().tf.constant(outputs), runtime().tf.constant(y)).numpy()
    np.testing.assert_array_equal(score > 0, fooled)
    np.testing.assert_array_equal(np.isneginf(score), ~finite)
    assert not criterion.differ(outputs[finite], outputs[finite]).any()


@pytest.mark.parametrize("criterion", CLASSES, ids=repr)
@given(outputs=arrays(np.float32, (6, 5), elements=NUMBERS), y=arrays(np.int64, 6, elements=st.integers(0, 4)))
def test_classes_decision_margin_and_score_agree(criterion: Criterion, outputs: np.ndarray, y: np.ndarray) -> None:
    agree(criterion, outputs, y)


@pytest.mark.parametrize("criterion", VALUES, ids=repr)
@given(outputs=arrays(np.float32, (6, 2), elements=NUMBERS), y=arrays(np.float64, (6, 2), elements=REAL))
def test_deviations_decision_margin_and_score_agree(criterion: Criterion, outputs: np.ndarray, y: np.ndarray) -> None:
    agree(criterion, outputs, y)


@pytest.mark.parametrize("criterion", SCORES, ids=repr)
@given(outputs=arrays(np.float64, (6, 1), elements=NUMBERS))
def test_scores_decision_margin_and_score_agree(criterion: Criterion, outputs: np.ndarray) -> None:
    agree(criterion, outputs, np.zeros(6, np.int64))


@pytest.mark.parametrize("criterion", [*CLASSES, *VALUES, *SCORES], ids=repr)
def test_every_loss_leads_to_success(criterion: Criterion) -> None:
    """Outputs that climb any loss end up fooling the victim."""
    tf = runtime().tf
    rng = np.random.default_rng(0)
    width = 5 if criterion in CLASSES else 2 if criterion in VALUES else 1
    y: Any = rng.integers(2, 5, 8) if width == 5 else np.ones((8, 2)) if width == 2 else np.zeros(8, np.int64)
    start = np.eye(5)[y] if width == 5 else np.ones((8, 2)) if width == 2 else np.full((8, 1), 0.5)
    start = start + rng.uniform(0, 0.01, (8, width))
    if isinstance(criterion, AnomalyScore):
        start += 0.2 if criterion.direction == "hide" else -0.2
    names: tuple[LossName, ...] = get_args(LossName)
    for name in names:
        outputs = tf.Variable(start, dtype=tf.float32)
        assert not criterion.fooled(outputs.numpy(), y).any()
        aim = criterion.targets(outputs.numpy(), y, 1)[:, 0]
        for _ in range(60):
            with tf.GradientTape() as tape:
                loss = criterion.loss(name)(outputs, tf.constant(y), tf.constant(aim))
            assert loss.shape == (8,) and loss.dtype == tf.float32
            gradient = tape.gradient(loss, outputs)
            assert (np.abs(gradient.numpy()).max(axis=1) > 0).all(), name
            outputs.assign_add(0.05 * tf.sign(gradient))
            if criterion.fooled(outputs.numpy(), y).all():
                break
        assert criterion.fooled(outputs.numpy(), y).all(), name


@pytest.mark.parametrize("criterion", [*CLASSES, *VALUES, *SCORES], ids=repr)
def test_criteria_are_values(criterion: Any) -> None:
    again = TypeAdapter(AnyCriterion).validate_python(criterion.model_dump(mode="json"))
    assert again == criterion and hash(again) == hash(criterion) and repr(again) == repr(criterion)
    with pytest.raises(ValidationError):
        criterion.kind = "other"


def test_targets_are_wrong_classes_or_directions() -> None:
    logits = np.array([[3.0, 2.0, 1.0, 0.0]])
    y = np.array([0])
    assert MISCLASSIFICATION.targets(logits, y, 2).tolist() == [[1, 2]]
    assert GROUPS.targets(logits, y, 9).tolist() == [[1, 3]]
    assert GROUPS.rivals(logits, np.array([2]), 2).tolist() == [[0, 1]]
    assert Targeted(target=3).targets(logits, y, 9).tolist() == [[3]]
    moved = Deviation(tolerance=1).targets(np.array([[1.0, -2.0]]), np.zeros((1, 2)), 3)
    assert moved.tolist() == [[3, 0, 1]]  # the second output down, the first up, the first down


def test_a_border_is_on_the_safe_side_of_deviations_and_on_the_normal_side_of_scores() -> None:
    y = np.zeros((1, 1))
    assert not Deviation(tolerance=0.5).fooled(np.array([[0.5]]), y)[0]
    assert Deviation(tolerance=0.5).fooled(np.array([[np.nextafter(0.5, 1)]]), y)[0]
    assert SCORES[0].fooled(np.array([[0.5]]), y)[0] and not SCORES[1].fooled(np.array([[0.5]]), y)[0]


def test_groups_are_apart() -> None:
    with pytest.raises(ValidationError, match="class 1 is negative or in two places"):
        GroupMisclassification(groups=((0, 1), (1, 2)))


def test_heads_compute_the_same_in_numpy_and_tensorflow() -> None:
    rng = np.random.default_rng(0)
    rebuilt, values = rng.normal(size=(3, 16)).astype(np.float32), rng.normal(size=(3, 4, 4)).astype(np.float32)
    score = ReconstructionError().arrays(rebuilt, values)
    assert score.dtype == np.float64 and score.shape == (3, 1)
    np.testing.assert_allclose(ReconstructionError().tensors(rebuilt, values).numpy(), score, rtol=1e-12)
    np.testing.assert_allclose(score[:, 0], ((rebuilt - values.reshape(3, 16)) ** 2).mean(axis=1), rtol=1e-5)
    logit = np.array([[-1.0], [0.0], [2.0]], np.float32)
    assert TwoClasses().arrays(logit, values).tolist() == [[0, -1], [0, 0], [0, 2]]
    np.testing.assert_array_equal(TwoClasses().tensors(logit, values).numpy(), TwoClasses().arrays(logit, values))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.01, 0.5))
def test_the_threshold_keeps_the_false_positive_rate(scores: list[float], rate: float) -> None:
    threshold = anomaly_threshold(np.array(scores), rate)
    assert threshold in scores and np.mean(np.array(scores) > threshold) <= rate


def test_measures_beside_the_share() -> None:
    y, outputs = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [1.0], [1.5]])
    errors = regression_errors(outputs, y)
    assert errors["mae"] == pytest.approx(1 / 3) and errors["rmse"] == pytest.approx((1 / 6) ** 0.5)
    assert errors["r2"] == pytest.approx(0.75)
    assert area_under_curve(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])) == 0.875
    assert area_under_curve(np.ones(2), np.ones(2, bool)) is None


def test_an_autoencoders_attacks_concern_one_kind_of_input() -> None:
    y = np.array([0, 1, 1])
    hide, alarm = (Task("anomaly", criterion) for criterion in SCORES)  # type: ignore[arg-type]
    assert hide.concerned(y).tolist() == [False, True, True] and alarm.concerned(y).tolist() == [True, False, False]
    assert Task().concerned(y).all()
