"""Defended victims: what they answer, when an attack on them has succeeded, and that attacks work on them."""

from __future__ import annotations

import numpy as np
import pytest

from qmodels.attacks import APGD, PGD, DeepFool, FMNLinf, HopSkipJumpLinf, Square
from qmodels.criteria import MISCLASSIFICATION, Rejecting
from qmodels.defences import BitDepth, Defence, Median, TemperedModel, defended, detector
from qmodels.grid import IMAGE_GRID
from qmodels.runtime import runtime
from qmodels.victims import AcceleratorVictim, GradientVictim, KerasVictim, decisions

CRITERION = Rejecting(classes=10)


@pytest.fixture(scope="module")
def parts(toolbox):
    victim = KerasVictim(toolbox.float_model, "float", IMAGE_GRID)
    squeezers = (BitDepth(IMAGE_GRID, 3), Median(2))
    clean = toolbox.data.validation
    guarded = defended(victim, detector(squeezers, victim, clean.x, 0.1))
    filtered = defended(victim, Defence((BitDepth(IMAGE_GRID, 3),)))
    return victim, guarded, filtered, toolbox.data


def test_a_filtered_victim_answers_for_what_it_is_shown(parts):
    victim, _, filtered, data = parts
    x = data.test.x[:20]
    np.testing.assert_array_equal(filtered.logits(x), victim.logits(BitDepth(IMAGE_GRID, 3).codes(x)))
    assert isinstance(filtered, GradientVictim)
    assert filtered.defence.place == "hardware" and parts[1].defence.place == "host"


def test_no_more_validation_inputs_are_refused_than_asked_for(parts):
    _, guarded, _, data = parts
    refused = CRITERION.refused(guarded.logits(data.validation.x))
    assert 0 < refused.mean() <= 0.1


def test_outputs_are_the_logits_of_all_views_and_the_distance_to_the_threshold(parts):
    victim, guarded, _, data = parts
    x, outputs = data.test.x[:30], guarded.logits(data.test.x[:30])
    assert outputs.shape == (30, 31)
    np.testing.assert_array_equal(outputs[:, :10], victim.logits(x))
    np.testing.assert_array_equal(outputs[:, 20:30], victim.logits(Median(2).codes(x)))
    p = [
        np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in np.split(outputs[:, :30].astype(float), 3, 1)
    ]
    apart = np.maximum(*(np.abs(p[0] - other).sum(axis=1) for other in p[1:]))
    np.testing.assert_allclose(outputs[:, 30], apart - guarded.defence.threshold, atol=1e-6)
    graph = guarded.gradient_model.outputs(runtime().tf.constant(x, "float32")).numpy()
    np.testing.assert_allclose(graph, outputs, atol=1e-4)


def test_an_attack_succeeds_when_the_class_is_wrong_and_the_input_accepted():
    right, wrong = [2.0, 0.0], [0.0, 2.0]
    rows = np.array([[*right, -0.1], [*right, 0.1], [*wrong, -0.1], [*wrong, 0.1], [*wrong, 0.0], [*wrong, np.nan]])
    criterion, y = Rejecting(classes=2), np.zeros(6, np.int64)
    assert criterion.fooled(rows, y).tolist() == [False, False, True, False, True, False]
    assert criterion.wrong(rows, y).tolist() == [False, False, True, False, True, True]
    assert (criterion.margins(rows, y) < 0).tolist() == [False, False, True, False, True, False]
    score = criterion.score(runtime().tf.constant(rows, "float32"), y).numpy()
    assert (score > 0).tolist() == [False, False, True, False, True, False]
    assert criterion.decisions(rows[:4]).tolist() == [0, -2, 1, -2]
    assert criterion.differ(rows[:2], rows[2:4]).tolist() == [True, False]


@pytest.mark.parametrize(
    "attack",
    [APGD(steps=5), FMNLinf(steps=10), DeepFool(steps=3), Square(queries=20), HopSkipJumpLinf(queries=40)],
    ids=lambda attack: attack.label,
)  # fmt: skip
def test_attacks_run_on_a_detector_and_their_success_is_its_own(parts, attack):
    _, guarded, _, data = parts
    x, y = data.test.take(12)
    epsilon = np.inf if attack.norm == "l2" else 48
    result = attack(guarded, x, y, epsilon_lsb=epsilon, seed=0, criterion=CRITERION)
    np.testing.assert_array_equal(result.success, CRITERION.fooled(guarded.logits(result.x), y))


def test_who_knows_the_detector_does_more_harm(parts):
    victim, _, _, data = parts
    guarded = defended(victim, detector((BitDepth(IMAGE_GRID, 3),), victim, data.validation.x, 0.1))
    x, y = data.test.take(60)
    attack = PGD(steps=20)
    carried = attack(victim, x, y, epsilon_lsb=10, seed=0, for_others=True)
    unaware = CRITERION.fooled(guarded.logits(carried.x), y).mean()
    aware = attack(guarded, x, y, epsilon_lsb=10, seed=0, criterion=CRITERION).success.mean()
    assert aware > unaware + 0.1


def test_a_tempered_attacker_sees_a_gradient_where_the_softmax_is_saturated(parts):
    victim, *_, data = parts
    keras = runtime().keras
    sharp = keras.Sequential([victim.model, keras.layers.Lambda(lambda logits: 256.0 * logits)])
    distilled = KerasVictim(sharp, "float", IMAGE_GRID)
    aware = AcceleratorVictim(distilled, TemperedModel(distilled.gradient_model, 250))
    x, y = data.test.take(60)
    np.testing.assert_array_equal(decisions(aware.logits(x)), decisions(victim.logits(x)))
    blind = PGD(steps=10, loss="ce-probabilities")(distilled, x, y, epsilon_lsb=24, seed=0)
    found = PGD(steps=10)(aware, x, y, epsilon_lsb=24, seed=0)
    assert blind.diagnostics.zero_gradient_share > 0.3 > found.diagnostics.zero_gradient_share
    assert found.accuracy < blind.accuracy - 0.2
    assert MISCLASSIFICATION.fooled(distilled.logits(found.x), y).mean() == 1 - found.accuracy
