"""Results that somebody edited are told by file and key; `benchmarks/hostile.py` has many more of them."""

from __future__ import annotations

from typing import Any

import pytest

from hw.report.schema import ExamplesPart, OverflowPart, ResultsPart, TrainingPart, check_shape
from qmodels.errors import UserError

ROW = {"model": "m", "victim": "v", "attack": "clean", "accuracy": 0.5, "n": 10}
RESULTS: dict[str, Any] = {"run": "r", "rows": [ROW]}


@pytest.mark.parametrize(
    ("shape", "plain", "told"),
    [
        (ResultsPart, [], "f.json: must be an object"),
        (ResultsPart, {"run": "r"}, "f.json: rows is missing"),
        (ResultsPart, RESULTS | {"rows": [ROW, ROW | {"accuracy": "x"}]}, "f.json: rows[1].accuracy must be a number"),
        (ResultsPart, RESULTS | {"rows": [ROW | {"accuracy": 1.5}]}, "f.json: rows[0].accuracy must be 1.0 or less"),
        (ResultsPart, RESULTS | {"rows": [ROW | {"n": True}]}, "f.json: rows[0].n must be a whole number"),
        (ResultsPart, RESULTS | {"rows": [ROW | {"ci95": [1.0]}]}, "f.json: rows[0].ci95 must have 2 items or more"),
        (ResultsPart, RESULTS | {"rows": [ROW | {"iterative": 1}]}, "f.json: rows[0].iterative must be true or false"),
        (ResultsPart, RESULTS | {"rows": 3}, "f.json: rows must be a list"),
        (ResultsPart, RESULTS | {"cost": 3}, "f.json: cost must be an object"),
        (ResultsPart, RESULTS | {"lipschitz_by_bits": [{"layer": "a", "x": 1}]}, "not under 'x'"),
        (TrainingPart, {"history": [{"phase": 0, "loss": "x"}]}, "f.json: history[0].loss must be a number"),
        (OverflowPart, {"engine": "bitsim", "images": -1, "layers": []}, "f.json: images must be 0 or more"),
        (
            ExamplesPart,
            {"attack": "a", "epsilon_lsb": 1, "source": "s", "shape": [2, 2, 1], "victims": [],
             "samples": [{"index": 0, "label": 0, "clean": "AAAA", "attacked": "AAAA", "answers": []}]},
            "f.json: samples[0].clean must be 4 bytes in base64",
        ),
    ],
)  # fmt: skip
def test_the_key_and_what_it_must_be_are_told(shape: Any, plain: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        check_shape(shape, plain, "f.json")
    assert told in str(caught.value)


def test_what_we_write_and_keys_of_other_versions_pass() -> None:
    check_shape(ResultsPart, RESULTS | {"new": {"key": [1]}, "measures": []}, "f.json")
