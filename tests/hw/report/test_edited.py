"""Results that somebody edited are told by file and key; `benchmarks/hostile.py` has many more of them."""

from __future__ import annotations

from typing import Any

import pytest

from hw.experiment.stored import (
    AdoptedPart,
    CostPart,
    FormatsPart,
    LayerwisePart,
    OverflowPart,
    ProjectPart,
    QuantizationPart,
    RepairPart,
    SimulationPart,
)
from hw.report.schema import ExamplesPart, ResultsPart, TrainingPart
from qmodels.errors import UserError
from qmodels.shapes import check_shape

COST: dict[str, Any] = dict.fromkeys(CostPart.model_fields, 1) | {"layers": []}
SIMULATION = dict.fromkeys(("inputs", "adversarial_inputs", "mismatched_outputs", "csim_inputs"), 1)
CANDIDATE = {"mean_delta_w": 0.5, "stored_bits": 3, "clean": 0.5, "attacked": 0.1}
CHOICE: dict[str, Any] = {"chosen": 0, "common": CANDIDATE, "candidates": [CANDIDATE], "layers": []}
CHANGE = {"images": 1, "largest_difference": 0.0, "changed_predictions": 0, "compared": "outputs"}
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
        (ResultsPart, RESULTS | {"cost": {"bram_18k": "few"}}, "f.json: cost.bram_18k must be a whole number"),
        (ResultsPart, RESULTS | {"cost": {"layers": [3]}}, "f.json: cost.layers[0] must be an object"),
        (ResultsPart, RESULTS | {"exactness": {"model_difference": 3}}, "exactness.model_difference must be an obj"),
        (ResultsPart, RESULTS | {"cost": 3}, "f.json: cost must be an object"),
        (ResultsPart, RESULTS | {"lipschitz_by_bits": [{"layer": "a", "x": 1}]}, "not under 'x'"),
        (TrainingPart, {"history": [{"phase": 0, "loss": "x"}]}, "f.json: history[0].loss must be a number"),
        (CostPart, COST | {"ebops": -1}, "f.json: ebops must be 0 or more"),
        (CostPart, COST | {"layers": [{"layer": 3}]}, "f.json: layers[0].layer must be a text"),
        (CostPart, COST | {"layers": None}, "f.json: layers must be a list"),
        (SimulationPart, SIMULATION | {"inputs": "many"}, "f.json: inputs must be a whole number"),
        (SimulationPart, SIMULATION | {"model_difference": 3}, "f.json: model_difference must be an object"),
        (SimulationPart, {}, "f.json: inputs is missing"),
        (LayerwisePart, CHOICE | {"chosen": 1}, "f.json: chosen must be below 1, the number of candidates"),
        (LayerwisePart, CHOICE | {"common": {}}, "f.json: common.mean_delta_w is missing"),
        (RepairPart, {"repairs": "all", "change": CHANGE}, "f.json: repairs must be a list"),
        (RepairPart, {"repairs": [], "change": CHANGE | {"images": None}}, "f.json: change.images must be a whole"),
        (AdoptedPart, {"changes": [3]}, "f.json: changes[0] must be a text"),
        (ProjectPart, {"digest": "a", "warnings": 3}, "f.json: warnings must be a list"),
        (list[QuantizationPart], [{"layer": "a", "bits": 0}], "f.json: [0].bits must be 1 or more"),
        (list[FormatsPart], [{"layer": "a"}], "f.json: [0] must hold a layer's formats (KeyError: 'weight')"),
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


def test_good_ones_pass() -> None:
    for shape, plain in ((CostPart, COST), (SimulationPart, SIMULATION), (LayerwisePart, CHOICE)):
        check_shape(shape, plain, "f.json")
    check_shape(RepairPart, {"repairs": [], "change": CHANGE}, "f.json")


def test_what_we_write_and_keys_of_other_versions_pass() -> None:
    check_shape(ResultsPart, RESULTS | {"new": {"key": [1]}, "measures": []}, "f.json")
