"""Where designs come from: the grid; the layer-wise descent along ||ΔW||; optuna."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hw.sizing.config import Choice, DescentConfig, SearchConfig
from qmodels.errors import UserError

LAYER_BITS = "quantization.layers.{}.weight_bits"


def descent(
    sizes: Mapping[str, int], losses: Mapping[str, Mapping[int, float]], bits: DescentConfig
) -> list[dict[str, int]]:
    """Bits per layer, from wide to narrow, one bit of one layer a step.

    Each step narrows the layer whose relative error ||ΔW||_2 / ||W||_2 grows least for each weight bit saved: the error
    bound of the whole network is a product of the layers' norms, in which only relative errors count.

    Args:
        sizes: weights in each layer.
        losses: for each layer, ||ΔW||_2 / ||W||_2 at every number of bits in the range.
        bits: where to start and to end.
    """
    now = dict.fromkeys(sizes, bits.from_bits)
    path = [dict(now)]
    while open_layers := [layer for layer in sizes if now[layer] > bits.to_bits]:

        def price(layer: str) -> tuple[float, int]:
            rise = losses[layer][now[layer] - 1] - losses[layer][now[layer]]
            return rise / sizes[layer], -sizes[layer]

        now[min(open_layers, key=price)] -= 1
        path.append(dict(now))
    return path


def layer_settings(bits: Mapping[str, int]) -> dict[str, Choice]:
    """Bits per layer as config keys."""
    return {LAYER_BITS.format(layer): width for layer, width in bits.items()}


#: Given settings, the objectives of each: attacked accuracy (up), then the costs (down); None for a failed design.
Evaluate = Callable[[Sequence[dict[str, Choice]]], Sequence[tuple[float, ...] | None]]


def search(space: Mapping[str, list[Choice]], costs: int, config: SearchConfig, evaluate: Evaluate) -> None:
    """Ask optuna for designs, batch by batch.

    Deterministic: the sampler is seeded and told in a fixed order, so that a run that was stopped asks for the same
    designs again and finds their results in the store.

    Raises:
        UserError: optuna is not installed.
    """
    try:
        optuna: Any = importlib.import_module("optuna")
    except ImportError:
        raise UserError('mode search needs optuna: pip install "robust-hls[search]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = (
        optuna.samplers.NSGAIISampler(seed=config.seed, population_size=max(config.batch, 8))
        if config.sampler == "nsga2"
        else optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=2 * config.batch)
    )
    study = optuna.create_study(directions=["maximize", *["minimize"] * costs], sampler=sampler)
    for size in _batches(config):
        trials = [study.ask() for _ in range(size)]
        asked = [_settings(trial, space) for trial in trials]
        for trial, found in zip(trials, evaluate(asked), strict=True):
            if found is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, found)


def _settings(trial: Any, space: Mapping[str, list[Choice]]) -> dict[str, Choice]:
    """One value of each key; values are asked for by their place, which suits lists and None too."""
    return {key: values[trial.suggest_categorical(key, list(range(len(values))))] for key, values in space.items()}


def _batches(config: SearchConfig) -> Iterator[int]:
    for first in range(0, config.trials, config.batch):
        yield min(config.batch, config.trials - first)
