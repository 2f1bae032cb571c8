"""The layer-wise descent and optuna's search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hw.sizing.config import Choice, DescentConfig, SearchConfig
from hw.sizing.modes import Bits, Knob, Tried, descend, knobs_of, search

KNOBS = [Knob("quantization.layers.sensitive.weight_bits", 2), Knob("quantization.layers.robust.weight_bits", 2)]


def judged(damage: tuple[float, ...], sizes: tuple[int, ...], asked: Sequence[tuple[int, Bits]]) -> list[Tried | None]:
    """Every bit below 5 does damage; a bit of a larger layer saves more."""
    return [
        Tried(
            1.0 - sum(d * (5 - b) for d, b in zip(damage, bits, strict=True)),
            (sum(size * b for size, b in zip(sizes, bits, strict=True)),),
            0.0,
        )
        for _, bits in asked
    ]


def path_of(damage: tuple[float, ...], sizes: tuple[int, ...], start: Bits) -> list[list[Bits]]:
    rounds: list[list[Bits]] = []

    def judge(asked: Sequence[tuple[int, Bits]]) -> list[Tried | None]:
        rounds.append([bits for _, bits in asked])
        return judged(damage, sizes, asked)

    descend([KNOBS], [start], judge)
    return rounds


def test_a_step_tries_every_knob_and_takes_the_one_that_does_least_damage() -> None:
    rounds = path_of((0.05, 0.01), (10, 10), (5, 5))
    assert rounds[:3] == [[(5, 5)], [(4, 5), (5, 4)], [(4, 4), (5, 3)]]
    assert rounds[4] == [(4, 2)]  # the robust layer is at its lowest: now the other
    assert rounds[-1] == [(2, 2)]


def test_of_equal_damage_the_step_that_saves_most_is_taken() -> None:
    assert path_of((0.01, 0.01), (10, 1000), (5, 5))[2] == [(4, 4), (5, 3)]


def test_a_design_that_fails_ends_no_other_descent() -> None:
    seen = []

    def judge(asked: Sequence[tuple[int, Bits]]) -> list[Tried | None]:
        seen.extend(asked)
        return [None if number == 0 else Tried(0.5, (sum(bits),), 0.0) for number, bits in asked]

    descend([KNOBS, KNOBS], [(3, 3), (3, 3)], judge)
    assert [bits for number, bits in seen if number == 0] == [(3, 3)]
    assert (1, (2, 2)) in seen


def test_relus_take_part_unless_they_are_left_out() -> None:
    both = knobs_of(["fc1"], ["fc1_relu"], DescentConfig())
    keys = ["quantization.layers.fc1.weight_bits", "quantization.layers.fc1_relu.activation_bits"]
    assert [knob.key for knob in both] == keys
    assert len(knobs_of(["fc1"], ["fc1_relu"], DescentConfig(activations_to=None))) == 1


SPACE: dict[str, list[Choice]] = {"bits": [2, 3, 4, 5, 6], "layers": [["last-1"], ["last-2"], None]}


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_repeated_search_asks_for_the_same_designs(sampler: str) -> None:
    pytest.importorskip("optuna")
    config = SearchConfig(trials=20, batch=4, sampler=sampler)  # type: ignore[arg-type]
    runs = []
    for _ in range(2):
        asked: list[dict[str, Choice]] = []

        def evaluate(
            batch: Sequence[dict[str, Choice]], seen: list[dict[str, Choice]] = asked
        ) -> list[tuple[float, ...] | None]:
            seen.extend(batch)
            answers: list[tuple[float, ...] | None] = []
            for settings in batch:
                bits = settings["bits"]
                assert isinstance(bits, int)
                answers.append(None if bits == 2 else (bits / 10, float(bits)))
            return answers

        search(SPACE, 1, config, evaluate)
        runs.append(asked)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 20
    assert {str(settings["layers"]) for settings in runs[0]} == {"['last-1']", "['last-2']", "None"}
