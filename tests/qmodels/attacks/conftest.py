"""Models and images of the attack tests, trained once per session."""

from __future__ import annotations

from typing import Any

import pytest
from small_victims import OutputsOnly, digits, float_model, quantized_model

from qmodels.data import Dataset, Split
from qmodels.quantize.prequantized import prequantize
from qmodels.victims import AcceleratorVictim, KerasVictim, Victim


@pytest.fixture(scope="session")
def data() -> Dataset:
    return digits()


@pytest.fixture(scope="session")
def images(data: Dataset) -> Split:
    return data.test.take(40)


@pytest.fixture(scope="session")
def qkeras_model(data: Dataset) -> Any:
    return quantized_model(data)


@pytest.fixture(scope="session")
def victims(data: Dataset, qkeras_model: Any) -> dict[str, Victim]:
    """Float; quantized, with constant weights; and the accelerator: the model's outputs, the former's gradients."""
    quantized = KerasVictim(prequantize(qkeras_model), "quantized")
    accelerator = AcceleratorVictim(OutputsOnly(KerasVictim(qkeras_model, "quantized")), quantized.gradient_model)
    return {"float": KerasVictim(float_model(data), "float"), "quantized": quantized, "accelerator": accelerator}
