"""The table: every attack against every kind of victim."""

from __future__ import annotations

import numpy as np
import pytest
from small_victims import EPSILON, OutputsOnly

from qmodels.attacks import Attack, SphereNoise, UniformNoise, parse_attack
from qmodels.data import Split
from qmodels.errors import UserError
from qmodels.metrics.distance import change_lengths
from qmodels.victims import Victim

QUERIES = 250
BALL_ATTACKS = [
    {"kind": "fgsm"},
    {"kind": "fgsm", "loss": "ce-rescaled"},
    {"kind": "bim", "steps": 10},
    {"kind": "mim", "steps": 10},
    {"kind": "pgd-linf", "steps": 10, "restarts": 2},
    {"kind": "pgd-linf", "steps": 10, "loss": "margin"},
    {"kind": "pgd-l2", "steps": 10},
    {"kind": "apgd-ce", "steps": 20},
    {"kind": "apgd-dlr", "steps": 20},
    {"kind": "apgd-l2", "steps": 20},
    {"kind": "apgd-t", "steps": 20, "classes": 3},
    {"kind": "square", "queries": QUERIES},
    {"kind": "square-l2", "queries": QUERIES},
    {"kind": "simba", "queries": QUERIES},
    {"kind": "simba", "queries": QUERIES, "basis": "dct"},
    {"kind": "nes-pgd", "queries": QUERIES, "probes": 5},
    {"kind": "zoo", "queries": QUERIES},
    {"kind": "local-search", "queries": QUERIES, "rounds": 10},
    {"kind": "hopskipjump", "queries": QUERIES},
    {"kind": "hopskipjump-linf", "queries": QUERIES},
    {"kind": "boundary", "queries": QUERIES},
    {"kind": "geoda", "queries": QUERIES},
    {"kind": "gaussian", "draws": 3},
    {"kind": "gaussian-l2", "draws": 3},
    {"kind": "uniform", "draws": 3},
]
MINIMAL_ATTACKS = [
    {"kind": "cw-l2", "steps": 50, "rate": 0.05, "initial_weight": 1.0, "binary_steps": 3},
    {"kind": "cw-linf", "steps": 30, "rounds": 8, "initial_weight": 1.0},
    {"kind": "ead", "steps": 50, "binary_steps": 4, "initial_weight": 1.0},
    {"kind": "deepfool"},
    {"kind": "jsma", "theta": 0.5},
    {"kind": "fmn-l2", "steps": 40},
    {"kind": "fmn-linf", "steps": 40},
    {"kind": "fmn-l1", "steps": 40},
    {"kind": "fmn-l0", "steps": 40},
]
VICTIMS = ["float", "quantized", "accelerator"]


def title(settings: dict[str, object]) -> str:
    return "-".join(str(value) for key, value in settings.items() if key in ("kind", "loss", "basis"))


def check_images(x: np.ndarray) -> None:
    """On the grid: one byte a pixel."""
    assert x.dtype == np.uint8


def noise_accuracy(attack: Attack, victim: Victim, images: Split, epsilon: float) -> float:
    noise = SphereNoise(draws=3) if attack.norm == "l2" else UniformNoise(draws=3)
    return noise(victim, *images, epsilon_lsb=epsilon, seed=1).accuracy


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("settings", BALL_ATTACKS, ids=title)
def test_attack_in_a_ball(settings: dict[str, object], victim: str, victims: dict[str, Victim], images: Split) -> None:
    attack, target = parse_attack(settings), victims[victim]
    epsilon = EPSILON[attack.norm]
    result = attack(target, *images, epsilon_lsb=epsilon, seed=7)
    check_images(result.x)
    assert change_lengths(result.x, images.x)[attack.norm].max() <= epsilon
    np.testing.assert_array_equal(result.success, target.logits(result.x).argmax(axis=1) != images.y)
    again = attack(target, *images, epsilon_lsb=epsilon, seed=7)
    np.testing.assert_array_equal(again.x, result.x)
    if attack.family != "noise":
        # Two of 40 images: noise is drawn afresh, the attack has a small budget here.
        assert result.accuracy <= noise_accuracy(attack, target, images, epsilon) + 2 / len(images.y)
    if "queries" in settings:
        assert result.queries <= (QUERIES + 10) * len(images.y)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("settings", MINIMAL_ATTACKS, ids=title)
def test_minimal_norm_attack(
    settings: dict[str, object], victim: str, victims: dict[str, Victim], images: Split
) -> None:
    attack, target = parse_attack(settings), victims[victim]
    result = attack(target, *images, epsilon_lsb=float("inf"), seed=7)
    check_images(result.x)
    assert result.accuracy == 0.0
    lengths = change_lengths(result.x, images.x)
    # Far nearer than the images of another class, which would also fool the victim.
    other = images.x[np.argmax(images.y[None] != images.y[:, None], axis=1)]
    assert np.median(lengths[attack.norm]) < 0.6 * np.median(change_lengths(other, images.x)[attack.norm])
    again = attack(target, *images, epsilon_lsb=float("inf"), seed=7)
    np.testing.assert_array_equal(again.x, result.x)


@pytest.mark.parametrize("victim", VICTIMS)
def test_fgsm_is_no_stronger_than_pgd_and_pgd_no_stronger_than_the_worst_case(
    victim: str, victims: dict[str, Victim], images: Split
) -> None:
    def accuracy(**settings: object) -> float:
        return parse_attack(settings)(victims[victim], *images, epsilon_lsb=24, seed=0).accuracy

    members = [
        {"kind": "apgd-ce", "steps": 20},
        {"kind": "apgd-dlr", "steps": 20},
        {"kind": "fmn-linf", "steps": 40},
        {"kind": "square", "queries": QUERIES},
        {"kind": "hopskipjump-linf", "queries": QUERIES},
    ]
    fgsm, pgd = accuracy(kind="fgsm"), accuracy(kind="pgd-linf", steps=10, restarts=2)
    worst = accuracy(kind="worst-case", attacks=members)
    assert 1.0 > fgsm >= pgd >= worst


@pytest.mark.parametrize(
    "settings",
    [{"kind": "pgd-linf", "steps": 20}, {"kind": "apgd-ce", "steps": 20}, {"kind": "hopskipjump", "queries": 60}],
    ids=title,
)
@pytest.mark.parametrize("victim", VICTIMS)
def test_an_unbounded_attack_reaches_every_image(
    settings: dict[str, object], victim: str, victims: dict[str, Victim], images: Split
) -> None:
    assert parse_attack(settings)(victims[victim], *images, epsilon_lsb=float("inf"), seed=0).accuracy == 0.0


def test_more_restarts_and_more_iterations_never_weaken_pgd(victims: dict[str, Victim], images: Split) -> None:
    def accuracy(**settings: object) -> float:
        settings = {"kind": "pgd-linf", "steps": 10} | settings
        return parse_attack(settings)(victims["quantized"], *images, epsilon_lsb=20, seed=0).accuracy

    assert accuracy(restarts=4) <= accuracy()


@pytest.mark.parametrize("kind", ["fgsm", "apgd-ce", "cw-l2", "deepfool", "fmn-linf"])
def test_gradient_attacks_refuse_a_victim_without_gradients(
    kind: str, victims: dict[str, Victim], images: Split
) -> None:
    with pytest.raises(UserError, match="gives no gradients: attack it with square"):
        parse_attack({"kind": kind})(OutputsOnly(victims["quantized"]), *images, epsilon_lsb=8, seed=0)
