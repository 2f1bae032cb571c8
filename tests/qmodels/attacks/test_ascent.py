"""Inputs that have fallen leave the batch: the same ones fall, for less work; the victim has the last word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qmodels.attacks import parse_attack
from qmodels.attacks.ascent import _stretches
from qmodels.data import Split
from qmodels.grid import Codes
from qmodels.victims import AcceleratorVictim, GradientVictim, Logits, Victim

SETTINGS = (
    *({"kind": kind, "steps": 20} for kind in ("bim", "pgd-linf", "mim", "apgd-ce", "apgd-dlr")),
    {"kind": "apgd-t", "steps": 20, "classes": 3},
    {"kind": "pgd-linf", "steps": 20, "restarts": 3},
    {"kind": "fgsm"},
)


@dataclass
class Stubborn:
    """Never fooled: its outputs are those of the clean inputs."""

    inner: Victim
    clean: Codes

    def __post_init__(self) -> None:
        self.name, self.grid = self.inner.name, self.inner.grid

    def logits(self, x: Codes) -> Logits:
        return np.repeat(self.inner.logits(self.clean)[:1], len(x), axis=0)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_the_same_inputs_fall_for_fewer_queries(
    settings: dict[str, object], victims: dict[str, Victim], images: Split
) -> None:
    attack, victim = parse_attack(settings), victims["quantized"]
    short = attack(victim, *images, epsilon_lsb=24, seed=0)
    long = attack(victim, *images, epsilon_lsb=24, seed=0, for_others=True)
    assert 0.1 < short.accuracy < 0.9
    np.testing.assert_array_equal(short.success, long.success)
    np.testing.assert_array_equal(short.x[~short.success], long.x[~long.success])
    assert short.diagnostics == long.diagnostics
    if settings["kind"] == "fgsm":
        assert short.queries == long.queries
    elif (
        "restarts" not in settings and settings["kind"] != "apgd-t"
    ):  # there those that have fallen leave between trials
        assert short.queries < 0.9 * long.queries


def test_examples_go_as_far_as_they_can_where_others_are_to_be_fooled(
    victims: dict[str, Victim], images: Split
) -> None:
    attack, victim = parse_attack({"kind": "pgd-linf", "steps": 40}), victims["quantized"]
    x, y = images
    here, far = (attack(victim, x, y, epsilon_lsb=30, seed=0, for_others=go) for go in (False, True))
    fell = here.success
    margins = [(np.sort(victim.logits(r.x[fell]), axis=1)[:, -1] - victim.logits(r.x[fell])[range(fell.sum()), y[fell]])
               for r in (here, far)]  # fmt: skip
    assert (margins[0] <= margins[1]).all() and margins[0].mean() < margins[1].mean()


def test_a_victim_that_disagrees_with_its_gradients_keeps_its_inputs_in(
    victims: dict[str, Victim], images: Split
) -> None:
    inner = victims["quantized"]
    assert isinstance(inner, GradientVictim)
    one = images.take(1)
    x, y = np.repeat(one.x, 20, axis=0), np.repeat(one.y, 20)
    victim = AcceleratorVictim(Stubborn(inner, x), inner.gradient_model)
    attack = parse_attack({"kind": "pgd-linf", "steps": 16})
    asked, not_asked = (attack(victim, x, y, epsilon_lsb=60, seed=0, for_others=go) for go in (False, True))
    assert not asked.success.any()
    np.testing.assert_array_equal(asked.x, not_asked.x)
    assert not_asked.queries == 20 * 17 < asked.queries <= 20 * 18  # the victim is asked once about an input


@pytest.mark.parametrize("moves", [1, 2, 7, 8, 9, 40, 100])
@pytest.mark.parametrize("count", [1, 8])
def test_stretches_hold_every_move_once(moves: int, count: int) -> None:
    parts = _stretches(moves, count)
    assert [move for first, last in parts for move in range(first, last)] == list(range(1, moves + 1))
    assert len(parts) == min(moves, count)
