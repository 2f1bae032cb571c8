"""Layer-wise choice of weight codes: least ||Q(W) - W||_2 under a budget, for a network that amplifies errors least.

Idea: the Lipschitz constant of a layer's quantization error picks the layer's parameters (Song, Li, "Layer-wise
Adversarial-aware Quantization Optimization", arXiv:2110.12308, whose text we could not read). Ours: the grid of
options, the sum of the layers' norms as what is made least, the exact search, the bound. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qmodels.grid import IMAGE_GRID, MAX_INPUT_BITS, InputGrid
from qmodels.quantize.constants import enclosed_bits
from qmodels.quantize.fit import fit_code
from qmodels.quantize.uniform import Clip
from qmodels.quantize.weights import (
    Granularity,
    Kernel,
    Method,
    WeightCode,
    WeightConfig,
    reshaped_spectral_norm,
)

LIMIT = 20_000  # partial choices kept; below it the search is exact


class BudgetConfig(BaseModel):
    """What all kernels together may cost; at most one of them. None: what the section's own settings would cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    average_bits: float | None = Field(None, ge=2, le=16, description="stored bits per weight, scales and tables too")
    weight_bits: int | None = Field(None, ge=1, description="stored bits of all kernels, scales and tables too")
    ebops: int | None = Field(None, ge=1, description="bits of the weights x bits of the activations, multiplied")

    @model_validator(mode="after")
    def _one(self) -> BudgetConfig:
        if sum(value is not None for value in (self.average_bits, self.weight_bits, self.ebops)) > 1:
            raise ValueError("give one of average_bits, weight_bits and ebops")
        return self


class LayerwiseConfig(BaseModel):
    """The options of every layer, the budget, and how the best choices are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: tuple[int, ...] = Field((2, 3, 4, 5), min_length=1)
    methods: tuple[Method, ...] = Field(("uniform", "codebook"), min_length=1)
    granularities: tuple[Granularity, ...] = Field(("per-tensor", "per-channel"), min_length=1)
    clips: tuple[Clip, ...] = Field(("mse", "dw2"), min_length=1)
    mus: tuple[float, ...] = Field((0.0, 3.0), min_length=1, description="µ of the codebooks tried")
    budget: BudgetConfig = BudgetConfig()
    candidates: int = Field(8, ge=1, description="most choices that are attacked on validation images")
    epsilon_lsb: int = Field(26, ge=1, lt=2**MAX_INPUT_BITS, description="radius of that attack in grid steps")
    steps: int = Field(20, ge=1, description="PGD steps of that attack")
    samples: int = Field(1000, ge=1, description="validation images of that attack")


@dataclass(frozen=True, eq=False)
class Option:
    """One way to round one layer's kernel."""

    config: WeightConfig
    code: WeightCode
    cost: int  # stored bits or EBOPs
    score: float  # ||Q(W) - W||_2 of the reshaped kernel


@dataclass(frozen=True, eq=False)
class LayerKernel:
    """A layer as the search sees it."""

    name: str
    kernel: Kernel
    depthwise: bool
    input_bits: int  # of the activations it multiplies
    fixed: WeightConfig | None = None  # the user's own settings for it


@dataclass(frozen=True)
class Choice:
    """An option for every layer, in order."""

    options: tuple[Option, ...]

    @property
    def cost(self) -> int:
        """Sum over the layers."""
        return sum(option.cost for option in self.options)

    @property
    def mean_score(self) -> float:
        """Mean of ||ΔW||_2 over the layers."""
        return sum(option.score for option in self.options) / max(len(self.options), 1)


_Partial = tuple[int, float, tuple[Option, ...]]  # cost, error, options of the layers so far


def option_of(layer: LayerKernel, config: WeightConfig, *, ebops: bool) -> Option:
    """Round a kernel as `config` says; cost and error of that."""
    code = fit_code(layer.kernel, config, depthwise=layer.depthwise)
    rounded = code.round(layer.kernel)
    cost = code.stored_bits(layer.kernel.size)
    if ebops:  # per multiplier, as in hw/cost: a zero weight costs nothing
        cost = int(enclosed_bits(code.hardware.to_raw(rounded)).sum()) * layer.input_bits
    return Option(config, code, cost, reshaped_spectral_norm(rounded - layer.kernel, layer.depthwise))


def layer_options(layer: LayerKernel, base: WeightConfig, grid: LayerwiseConfig) -> list[Option]:
    """The options of a layer that no other one beats in cost and error, cheapest first."""
    ebops = grid.budget.ebops is not None
    configs = [layer.fixed] if layer.fixed else _grid(base, grid)
    front: list[Option] = []
    for option in sorted((option_of(layer, c, ebops=ebops) for c in configs), key=lambda o: (o.cost, o.score)):
        if not front or option.score < front[-1].score:
            front.append(option)
    return front


def best_choice(options: Sequence[Sequence[Option]], budget: int) -> Choice | None:
    """The choice of least total error within the budget; None if nothing fits.

    The multiple-choice knapsack, layer by layer: a partial choice is dropped when another one costs no more and errs
    no more, since both can be completed in the same ways. Exact as long as no more than `LIMIT` partial choices
    remain; beyond that the best one of every slice of the budget is kept.
    """
    if not all(options):
        return None
    rest = [sum(min(o.cost for o in layer) for layer in options[index + 1 :]) for index in range(len(options))]
    partial: list[_Partial] = [(0, 0.0, ())]
    for layer, needed in zip(options, rest, strict=True):
        grown = [
            (cost + option.cost, score + option.score, (*chosen, option))
            for cost, score, chosen in partial
            for option in layer
            if cost + option.cost + needed <= budget
        ]
        partial = _thinned(_undominated(grown), budget)
    return Choice(min(partial, key=lambda item: (item[1], item[0]))[2]) if partial else None


def error_bound(
    kernel_norms: Sequence[float], error_norms: Sequence[float], input_norms: Sequence[float], perturbation: float
) -> float:
    """Π||Ŵ_k|| ||Δx|| + Σ_l (Π_{k>l} ||Ŵ_k||) ||ΔW_l|| ||x_l||: how far a chain of layers can move its outputs.

    Holds for operator norms, activations that are 1-Lipschitz and a network without branches; the rounding of
    activations is left out.

    Args:
        kernel_norms: ||Ŵ_l|| of the rounded kernels, in order.
        error_norms: ||ΔW_l||.
        input_norms: ||x_l|| of the float network's inputs to every layer.
        perturbation: ||Δx|| of the network's input.
    """
    behind = [prod(kernel_norms[index + 1 :]) for index in range(len(kernel_norms))]
    own = sum(b * e * x for b, e, x in zip(behind, error_norms, input_norms, strict=True))
    return prod(kernel_norms) * perturbation + own


def budget_of(layers: Sequence[LayerKernel], base: Mapping[str, WeightConfig], budget: BudgetConfig) -> int:
    """The budget in bits or EBOPs; without one, what `base` costs in stored bits."""
    if budget.ebops is not None:
        return budget.ebops
    if budget.weight_bits is not None:
        return budget.weight_bits
    if budget.average_bits is not None:
        return int(budget.average_bits * sum(layer.kernel.size for layer in layers))
    return sum(option_of(layer, base[layer.name], ebops=False).cost for layer in layers)


def _grid(base: WeightConfig, grid: LayerwiseConfig) -> list[WeightConfig]:
    """All settings of one kernel; µ only makes a difference to codebooks."""
    found = []
    for method, bits, granularity, clip in product(grid.methods, grid.bits, grid.granularities, grid.clips):
        for mu in grid.mus if method == "codebook" else (base.codebook.mu,):
            codebook = base.codebook.model_copy(update={"mu": mu})
            found.append(
                WeightConfig(method=method, weight_bits=bits, granularity=granularity, clip=clip, codebook=codebook)
            )
    return found


def _undominated(items: list[_Partial]) -> list[_Partial]:
    """Those that no other one matches or beats in both cost and error."""
    kept: list[_Partial] = []
    for item in sorted(items, key=lambda item: (item[0], item[1])):
        if not kept or item[1] < kept[-1][1]:
            kept.append(item)
    return kept


def _thinned(items: list[_Partial], budget: int) -> list[_Partial]:
    """At most about `LIMIT`: the best of every slice of the budget."""
    if len(items) <= LIMIT:
        return items
    slices: dict[int, _Partial] = {}
    for item in items:  # by rising cost and falling error: the last one of a slice is its best
        slices[item[0] * LIMIT // max(budget, 1)] = item
    return list(slices.values())


def perturbation_norm(epsilon_lsb: float, features: int, grid: InputGrid = IMAGE_GRID) -> float:
    """Largest L2 norm, in the input's unit, in the L-infinity ball of that radius in grid steps."""
    return float(epsilon_lsb * float(grid.step) * np.sqrt(features))
