"""Where designs come from: the grid; the layer-wise descent along measured damage; optuna."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw.sizing.config import Choice, DescentConfig, SearchConfig
from qmodels.errors import UserError


@dataclass(frozen=True)
class Knob:
    """One number of bits: of a layer's weights, or of a ReLU's outputs."""

    key: str  # dotted config key
    lowest: int


@dataclass(frozen=True)
class Tried:
    """What a step of a descent is judged by."""

    accuracy: float  # under all that was tried so far
    costs: tuple[int, ...]
    delta_w: float


Bits = tuple[int, ...]  # of every knob


def knobs_of(layers: Sequence[str], relus: Sequence[str], bits: DescentConfig) -> list[Knob]:
    """The knobs of a network."""
    weights = [Knob(f"quantization.layers.{name}.weight_bits", bits.to_bits) for name in layers]
    if bits.activations_to is None:
        return weights
    return weights + [Knob(f"quantization.layers.{name}.activation_bits", bits.activations_to) for name in relus]


def descend(
    knobs: Sequence[Sequence[Knob]],
    starts: Sequence[Bits],
    judge: Callable[[Sequence[tuple[int, Bits]]], Sequence[Tried | None]],
) -> None:
    """Greedy descents, from wide to narrow, one bit of one knob a step, all of them side by side.

    A step tries every knob, and takes the one with the least damage for what it saves: accuracy lost for the shares of
    the costs that are saved; of equals the one that changes the weights least.

    Args:
        knobs: of every descent.
        starts: bits to begin with.
        judge: asked about (number of the descent, bits); None for a design that failed.
    """
    now = {number: (start, tried) for number, (start, tried) in enumerate(_first(starts, judge)) if tried is not None}
    while now:
        asked = [(n, _narrowed(bits, k)) for n, (bits, _) in now.items() for k in _open(knobs[n], bits)]
        if not asked:
            return
        answers: dict[int, list[tuple[Bits, Tried]]] = {}
        for (number, bits), tried in zip(asked, judge(asked), strict=True):
            if tried is not None:
                answers.setdefault(number, []).append((bits, tried))
        now = {
            number: min(found, key=lambda item, before=now[number][1]: price(before, item[1]))  # type: ignore[misc]
            for number, found in answers.items()
        }


def price(before: Tried, after: Tried) -> tuple[float, float, float]:
    """What orders the steps of a descent, the best one first."""
    saved = sum(1 - new / max(old, 1) for old, new in zip(before.costs, after.costs, strict=True))
    damage = before.accuracy - after.accuracy
    per_saved = damage / saved if saved > 0 else float("inf") if damage >= 0 else damage
    return per_saved, -saved, after.delta_w


def _first(
    starts: Sequence[Bits], judge: Callable[[Sequence[tuple[int, Bits]]], Sequence[Tried | None]]
) -> list[tuple[Bits, Tried | None]]:
    return list(zip(starts, judge(list(enumerate(starts))), strict=True))


def _open(knobs: Sequence[Knob], bits: Bits) -> list[int]:
    return [place for place, knob in enumerate(knobs) if bits[place] > knob.lowest]


def _narrowed(bits: Bits, place: int) -> Bits:
    return (*bits[:place], bits[place] - 1, *bits[place + 1 :])


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
