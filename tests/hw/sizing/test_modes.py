"""The layer-wise descent and optuna's search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hw.sizing.config import Choice, DescentConfig, SearchConfig
from hw.sizing.modes import descent, layer_settings, search

HALVING = {bits: 2.0**-bits for bits in range(2, 9)}


def test_the_descent_takes_one_bit_a_step_from_the_layer_that_loses_least_for_it() -> None:
    sizes = {"small": 100, "large": 1000}
    path = descent(sizes, {"small": HALVING, "large": HALVING}, DescentConfig(from_bits=4, to_bits=2))
    assert path[0] == {"small": 4, "large": 4}
    assert path[1] == {"small": 4, "large": 3}  # the same error saves ten times the bits
    assert path[-1] == {"small": 2, "large": 2}
    assert [sum(bits.values()) for bits in path] == [8, 7, 6, 5, 4]


def test_a_sensitive_layer_keeps_its_bits() -> None:
    losses = {"robust": HALVING, "sensitive": {bits: 1000 * loss for bits, loss in HALVING.items()}}
    path = descent({"robust": 10, "sensitive": 10}, losses, DescentConfig(from_bits=5, to_bits=2))
    assert path[3] == {"robust": 2, "sensitive": 5}
    assert layer_settings(path[3])["quantization.layers.sensitive.weight_bits"] == 5


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
