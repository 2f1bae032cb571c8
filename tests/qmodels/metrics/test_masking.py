"""Each flag: raised by what it is for, silent for an honest table and for noise of a few samples."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb, sqrt

import numpy as np
import pytest

from qmodels.metrics.masking import EXPLANATIONS, Row, scored_elsewhere, verdicts, with_flags
from qmodels.statistics import paired_p_value, wilson

N = 1000


def row(attack: str, right: int, epsilon: float = 76, **more: object) -> Row:
    """A white-box gradient row of `right` of 1,000 images; the first ones are the easy ones."""
    correct = np.arange(N) < right
    settings = {
        "knowledge": "white-box",
        "family": "gradient",
        "iterative": attack != "fgsm",
        "unbounded": epsilon >= 255,
    } | more
    return Row("m", "quantized", attack, right / N, N, epsilon_lsb=epsilon, correct=correct, **settings)


CLEAN = replace(row("clean", 980, 0), knowledge="none", family="none")
HONEST = [
    CLEAN,
    row("fgsm", 700),
    row("pgd-linf", 600, doubled_accuracy=0.599),
    row("pgd-linf", 900, 30),
    row("pgd-linf", 0, 255),
    row("fgsm", 750, knowledge="transfer"),
    row("square", 640, knowledge="black-box", family="score"),
    row("uniform", 975, knowledge="none", family="noise"),
    row("cw-l2", 0, float("inf"), norm="l2", family="minimal-norm"),
]


def flags_of(rows: list[Row], attack: str, epsilon: float = 76) -> set[str]:
    found = [r for r in with_flags(rows) if (r.attack, r.epsilon_lsb) == (attack, epsilon)]
    return set(found[-1].flags)


def test_an_honest_table_has_no_flag() -> None:
    assert [r.flags for r in with_flags(HONEST)] == [()] * len(HONEST)


@pytest.mark.parametrize(
    ("flag", "spoiled", "also"),
    [
        ("attacked-above-clean", row("pgd-l2", 1000, norm="l2"), []),
        ("single-step-stronger", row("bim", 800), []),
        ("accuracy-rises-with-epsilon", row("mim", 690), [row("mim", 640, 30)]),
        ("not-converged", row("bim", 600, doubled_accuracy=0.5), []),
        ("unbounded-below-100", row("bim", 600), [row("bim", 100, 255)]),
        ("unbounded-below-100", row("deepfool", 100, float("inf"), norm="l2", family="minimal-norm"), []),
        ("black-box-stronger", row("mim", 600), [row("square", 500, knowledge="black-box", family="score")]),
        ("black-box-stronger", row("fgsm", 700, norm="l2"), [row("fgsm", 20, norm="l2", knowledge="transfer")]),
        ("zero-gradients", row("bim", 600, zero_gradient_share=0.9), []),
        ("non-finite", row("bim", 600, non_finite_share=0.001), []),
        ("softmax-outputs", row("bim", 600, softmax_outputs=True), []),
        ("accelerator-disagrees", row("bim", 600, disagreements=1), []),
    ],
)
def test_what_a_flag_is_for(flag: str, spoiled: Row, also: list[Row]) -> None:
    assert flags_of([*HONEST, *also, spoiled], spoiled.attack, spoiled.epsilon_lsb) == {flag}


def test_every_flag_is_explained_in_plain_words() -> None:
    assert all(len(text) > 30 for text in EXPLANATIONS.values())


def test_a_weak_single_step_beaten_by_a_black_box_attack_is_no_news() -> None:
    assert flags_of([*HONEST, row("square", 640, knowledge="black-box", family="score")], "fgsm") == set()


def test_rows_of_other_victims_and_models_are_not_compared() -> None:
    rival = row("fgsm", 0)
    others = [replace(rival, model="other"), replace(rival, victim="float"), replace(rival, norm="l2")]
    assert all(r.flags == () for r in with_flags([*HONEST, *others]))


def test_sampling_noise_raises_no_flag() -> None:
    """Equal true accuracies, measured on 300 images each without pairing: under 1 flagged table in 100."""
    rng = np.random.default_rng(0)
    flagged = 0
    for _ in range(300):
        rows = [
            replace(row(attack, 0, epsilon), n=300, accuracy=float(rng.binomial(300, 0.6)) / 300, correct=None)
            for attack in ("clean", "fgsm", "bim")
            for epsilon in (8, 16)
        ]
        flagged += any(r.flags for r in with_flags(rows))
    assert flagged <= 3


def test_pairing_sees_what_separate_samples_cannot() -> None:
    low, high = row("fgsm", 570), row("bim", 600)
    assert "single-step-stronger" in with_flags([low, high])[1].flags
    apart = [replace(low, correct=None), replace(high, correct=None)]
    assert with_flags(apart)[1].flags == ()


def test_rows_with_more_images_are_compared_on_those_that_both_have() -> None:
    few = replace(row("pgd-linf", 0), n=100, accuracy=0.9, correct=np.arange(100) < 90)
    hard_end = replace(row("fgsm", 0), accuracy=0.1, correct=np.arange(N) < 100)  # right on the first hundred
    assert [r.flags for r in with_flags([hard_end, few])] == [(), ()]
    hard_start = replace(row("fgsm", 0), accuracy=0.95, correct=np.arange(N) >= 50)
    assert with_flags([hard_start, few])[1].flags == ("single-step-stronger",)
    (verdict,) = verdicts([hard_start, few])
    assert (verdict.worst, verdict.n) == (0.4, 100)


def test_the_verdict_is_the_per_sample_worst_case() -> None:
    early, late = np.arange(N) < 500, np.arange(N) >= 400
    rows = [CLEAN, replace(row("fgsm", 500), correct=early), replace(row("bim", 600), correct=late)]
    (verdict,) = verdicts(with_flags(rows))
    assert (verdict.clean, verdict.worst, verdict.worst_attack) == (0.98, 0.1, "fgsm")
    assert verdict.columns == {"fgsm": 0.5, "bim": 0.6}
    assert verdict.flags == {"single-step-stronger": "bim"}


def test_the_worst_case_holds_smaller_balls_and_twice_the_iterations() -> None:
    weak = replace(row("fgsm", 900, 30), correct=np.arange(N) >= 100)  # wrong on the first hundred
    strong = row("bim", 800, doubled_accuracy=0.7, doubled_correct=np.arange(N) < 700)
    assert [(v.epsilon_lsb, v.worst, v.columns) for v in verdicts([weak, strong])] == [
        (30, 0.9, {"fgsm": 0.9}),
        (76, 0.6, {"bim": 0.8}),
    ]


def test_what_twice_the_iterations_find_holds_for_the_same_function_only() -> None:
    made = row("bim", 600, doubled_accuracy=0.5, doubled_correct=np.arange(N) < 500)
    assert made.correct is not None
    same = scored_elsewhere(made, "bitsim", made.correct, knowledge="white-box")
    other = scored_elsewhere(made, "float", made.correct, knowledge="transfer")
    assert [r.flags for r in with_flags([made, same, other])] == [("not-converged",), ("not-converged",), ()]


def test_a_row_survives_json() -> None:
    (flagged,) = with_flags([row("deepfool", 100, float("inf"), family="minimal-norm", norm="l2")])
    assert Row.from_json(json.loads(json.dumps(flagged.as_json()))) == flagged


def test_wilson_known_values() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    for n in range(1, 2000, 7):
        assert wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 3), (1, 360), (137, 360), (359, 360), (400, 500), (9999, 10000)])
def test_wilson_is_the_published_formula(right: int, n: int) -> None:
    z, share = 1.959963984540054, right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert wilson(right, n) == pytest.approx((middle - half, middle + half), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 9), (7, 3), (60, 40), (200, 160)])
def test_paired_p_value_is_a_sum_of_binomials(gained: int, lost: int) -> None:
    changed = gained + lost
    higher, lower = np.arange(changed) < gained, np.arange(changed) >= gained
    exact = sum(comb(changed, k) for k in range(gained, changed + 1)) / 2**changed
    assert paired_p_value(lower, higher) == pytest.approx(exact, rel=1e-12)


def test_paired_test_is_the_exact_sign_test() -> None:
    higher, lower = np.ones(10, bool), np.arange(10) >= 5
    assert paired_p_value(lower, higher) == 1 / 32
    assert paired_p_value(higher, lower) == 1.0
