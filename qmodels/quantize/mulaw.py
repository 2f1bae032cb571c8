"""µ-law weight mapping: F(x) = sgn(x) ln(1 + µ|x|) / ln(1 + µ), after training, on chosen layers.

Source: Song, Fallon, Li, "Improving Adversarial Robustness in Weight-quantized Neural Networks"
(arXiv:2012.14965). Our choice, not the source's: W' = s F(W/s) with s = max|W| per layer, bias untouched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qmodels.layers import kernel_of, select_layers
from qmodels.quantize.equalize import equalize
from qmodels.runtime import copy_model


class MappingConfig(BaseModel):
    """What is done to weights before they are rounded; which layers are mapped, how strongly. µ = 0 maps nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mu: float = Field(0.0, ge=0.0, le=1e6)
    layers: tuple[str, ...] = Field(("last-2",), description="layer names, or last-N")
    equalize: bool = Field(
        False,
        description="rescale channels first, by powers of two, so that the weights that read them are of one size",
    )

    @property
    def without_equalizing(self) -> MappingConfig:
        """For weights that were trained on after it: they are not rescaled once more."""
        return self.model_copy(update={"equalize": False})


def mu_law(x: NDArray[Any], mu: float) -> NDArray[np.float64]:
    """F(x) for x in [-1, 1]; the identity for µ = 0 (the limit)."""
    values = np.asarray(x, np.float64)
    if mu == 0:
        return values
    return np.asarray(np.sign(values) * np.log1p(mu * np.abs(values)) / np.log1p(mu))


def inverse_mu_law(y: NDArray[Any], mu: float) -> NDArray[np.float64]:
    """F^-1(y) for y in [-1, 1]."""
    values = np.asarray(y, np.float64)
    if mu == 0:
        return values
    return np.asarray(np.sign(values) * np.expm1(np.abs(values) * np.log1p(mu)) / mu)


def map_weights(model: Any, config: MappingConfig) -> tuple[Any, list[str]]:
    """A copy of `model`, equalized if asked for, with the chosen layers' kernels mapped, and those layers' names.

    Raises:
        UserError: `config.layers` names a layer that the model does not have.
    """
    chosen = select_layers(model, config.layers) if config.mu > 0 else []
    mapped = copy_model(model)
    if config.equalize:
        equalize(mapped)
    for name in chosen:
        kernel = kernel_of(mapped.get_layer(name))
        weights = kernel.numpy().astype(np.float64)
        scale = np.abs(weights).max() or 1.0
        kernel.assign((scale * mu_law(weights / scale, config.mu)).astype(np.float32))
    return mapped, chosen
