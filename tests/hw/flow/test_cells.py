"""What is attacked: the names and bits its rows have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox

from hw.flow.cells import accelerator_of, sources
from hw.flow.config import RunConfig
from hw.flow.folder import RunFolder
from hw.flow.run import Run
from hw.flow.steps import map_step, quantize_step
from qmodels.quantize.layers import kernel_of, weighted_layers
from qmodels.storage import save_model


@pytest.fixture
def quantized(toolbox: Toolbox, tmp_path: Path) -> Any:
    """A run as far as its quantized model, by the settings of its `quantization` section."""

    def make(**quantization: Any) -> Run:
        save_model(toolbox.float_model, tmp_path / "model.keras")
        run = Run(RunConfig.model_validate({"quantization": quantization}), RunFolder(tmp_path), data=toolbox.data)
        map_step(run)
        quantize_step(run)
        return run

    return make


def test_rows_have_the_bits_of_all_layers(quantized: Any) -> None:
    run = quantized(weight_bits=3)
    assert [source.bits for source in sources(run)] == [None, 3]


def test_rows_have_the_mean_bits_where_layers_differ(quantized: Any) -> None:
    run = quantized(weight_bits=3, layers={"logits": {"weight_bits": 5}})
    sizes = {layer.name: np.size(kernel_of(layer)) for layer in weighted_layers(run.quantized_model)}
    mean = 3 + 2 * sizes["logits"] / sum(sizes.values())
    assert 3 < run.weight_bits < 5 and run.weight_bits == pytest.approx(mean, abs=0.005)
    assert accelerator_of(run).bits == run.weight_bits
