"""The layer-wise choice: as good as trying everything, within its budget, and its bound holds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers.models import BITS, Toolbox
from hypothesis import given
from hypothesis import strategies as st

from qmodels.criteria import Deviation
from qmodels.data import Split
from qmodels.errors import UserError
from qmodels.layers import kernel_of
from qmodels.metrics.lipschitz import difference_norms
from qmodels.quantize import layerwise
from qmodels.quantize.fit import fit_code
from qmodels.quantize.layerwise import Choice, LayerKernel, LayerwiseConfig, Option, best_choice, layer_options
from qmodels.quantize.model import LayerFormats, QuantizationConfig
from qmodels.quantize.selection import quantize_as_asked, select_formats
from qmodels.quantize.weights import WeightConfig
from qmodels.tasks import Task
from qmodels.victims import KerasVictim

CODE = fit_code(np.ones((2, 2)), WeightConfig())
OPTIONS = st.builds(Option, st.just(WeightConfig()), st.just(CODE), st.integers(1, 30), st.floats(0, 5, width=16))
SMALL = LayerwiseConfig(bits=(2, 3), mus=(0.0,), samples=60, steps=2, candidates=1)


@given(st.lists(st.lists(OPTIONS, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 90))
def test_the_search_finds_what_trying_everything_finds(options: list[list[Option]], budget: int) -> None:
    everything = [Choice(choice) for choice in product(*options)]
    affordable = [choice for choice in everything if choice.cost <= budget]
    found = best_choice(options, budget)
    assert (found is None) == (not affordable)
    if found is not None:
        assert found.cost <= budget
        assert found.mean_score == pytest.approx(min(choice.mean_score for choice in affordable))


def test_thinned_searches_keep_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    options = [
        [Option(WeightConfig(), CODE, int(c), float(100 / c)) for c in rng.integers(10, 200, 12)] for _ in range(8)
    ]
    exact = best_choice(options, 700)
    monkeypatch.setattr(layerwise, "LIMIT", 200)
    rough = best_choice(options, 700)
    assert exact is not None and rough is not None
    assert rough.cost <= 700
    assert exact.mean_score <= rough.mean_score <= exact.mean_score * 1.05


def test_options_of_a_layer_get_better_as_they_get_dearer() -> None:
    layer = LayerKernel("fc", np.random.default_rng(0).normal(size=(30, 8)), False, 8)
    options = layer_options(layer, WeightConfig(), SMALL)
    costs, scores = [o.cost for o in options], [o.score for o in options]
    assert costs == sorted(set(costs)) and scores == sorted(set(scores), reverse=True)
    fixed = LayerKernel("fc", layer.kernel, False, 8, WeightConfig(weight_bits=5))
    assert [option.config.weight_bits for option in layer_options(fixed, WeightConfig(), SMALL)] == [5]


def config(**settings: Any) -> QuantizationConfig:
    wanted = SMALL.model_copy(update=settings)
    return BITS.model_copy(update={"layerwise": wanted})


def test_a_real_network(toolbox: Toolbox) -> None:
    data = toolbox.data
    wanted = config()
    quantized, selection = quantize_as_asked(toolbox.float_model, wanted, data.train, data.validation, seed=0)
    assert selection is not None
    chosen = selection.candidates[selection.chosen]
    assert chosen.stored_bits <= selection.budget == selection.common.stored_bits
    assert chosen.mean_delta_w < selection.common.mean_delta_w
    assert sum(row["stored_bits"] for row in selection.table()) == chosen.stored_bits
    norms = difference_norms(toolbox.float_model, quantized.model)
    for norm, row in zip(norms, selection.table(), strict=True):
        assert norm.reshaped.two == pytest.approx(row["delta_w_2"], rel=1e-4)
    assert chosen.bound is not None
    assert moved(toolbox, selection.formats) <= chosen.bound


def moved(toolbox: Toolbox, formats: dict[str, LayerFormats]) -> float:
    """Mean change of the logits by rounded kernels and a random perturbation, activations left as they are."""
    model = toolbox.float_model
    rounded = type(model).from_config(model.get_config())
    rounded.set_weights(model.get_weights())
    for name, chosen in formats.items():
        assert chosen.code is not None
        kernel = kernel_of(rounded.get_layer(name))
        kernel.assign(chosen.code.round(kernel.numpy()))
    x = toolbox.data.train.values[: BITS.calibration_samples]
    signs = np.random.default_rng(0).choice([-1, 1], x.shape).astype(np.float32)
    change = rounded(x + signs * np.float32(SMALL.epsilon_lsb / 256)) - model(x)
    return float(np.linalg.norm(change, axis=1).mean())


def test_a_budget_too_small_says_what_would_do(toolbox: Toolbox) -> None:
    wanted = config(budget=layerwise.BudgetConfig(weight_bits=100))
    with pytest.raises(UserError, match=r"layerwise.budget: 100 is too little, the cheapest choice takes \d+"):
        select_formats(toolbox.float_model, wanted, toolbox.data.train.values, toolbox.data.validation, seed=0)


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of average_bits, weight_bits and ebops"):
        layerwise.BudgetConfig(average_bits=3, ebops=1000)


def test_a_regression_is_judged_by_its_tolerance(toolbox: Toolbox) -> None:
    data, model, task = toolbox.data, toolbox.float_model, Task("regression", Deviation(tolerance=0.4))
    validation = Split(data.validation.x, model.predict(data.validation.values, verbose=0))
    wanted, seen = config(candidates=2, samples=60, epsilon_lsb=4), validation.take(60)
    quantized, selection = quantize_as_asked(model, wanted, data.train, validation, seed=0, task=task)
    assert selection is not None
    chosen = selection.candidates[selection.chosen]
    outputs = KerasVictim(quantized.model, "quantized").logits(seen.x)
    assert chosen.clean == np.mean(np.abs(outputs - seen.y).max(axis=1) <= 0.4)
    assert 0 <= chosen.attacked <= chosen.clean < 1 and chosen.clean > 0
