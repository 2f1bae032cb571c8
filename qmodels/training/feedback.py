"""Feedback learning: new training examples where the decision boundary is near, more for the less robust classes.

Source: Song, Wang, Li, "Feedback Learning for Improving the Robustness of Neural Networks" (arXiv:1909.05443).
Stated there: classes are ranked by robustness; the top 20 % get 20 samples each, the bottom 50 % 150, the others
100; the 40 directions of smallest margin of each sample give examples at 1.5 to 2 times the margin, and these
"non-adversarial" examples join the training data. What it leaves open here, and we chose: how directions are drawn
and margins measured (see `margins`), that a class' score is the mean margin of its probe samples, that examples
keep their sample's label and are clipped and rounded to the input grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.data import Split
from qmodels.training.config import FeedbackConfig
from qmodels.training.margins import BATCH, LogitsFn, measure_margins, random_directions
from qmodels.training.report import ClassMargin, Level
from qmodels.victims import Labels


class Generated(NamedTuple):
    """New examples and their count by class."""

    split: Split
    examples: tuple[int, ...]


def class_levels(scores: NDArray[np.float64], config: FeedbackConfig) -> tuple[Level, ...]:
    """Each class' robustness level; equal scores are ranked by class number."""
    classes = len(scores)
    high, low = round(config.high_share * classes), round(config.low_share * classes)
    levels: list[Level] = ["medium"] * classes
    ranked = np.argsort(-scores, kind="stable")
    for label in ranked[classes - low :]:
        levels[label] = "low"
    for label in ranked[:high]:
        levels[label] = "high"
    return tuple(levels)


def samples_of_level(level: Level, config: FeedbackConfig) -> int:
    """How many samples a class of that level gets."""
    return {"high": config.high_samples, "medium": config.medium_samples, "low": config.low_samples}[level]


def class_margins(
    logits_fn: LogitsFn,
    data: Split,
    config: FeedbackConfig,
    *,
    classes: int,
    seed: int,
    on_grid: bool = False,
    batch_size: int = BATCH,
) -> tuple[ClassMargin, ...]:
    """Margins of each class, over the first `config.probe_samples` of its samples in a seeded order.

    Works for any victim: give its `logits`. The same data and seed mean the same samples and directions, so
    that the float model, the quantized model and the accelerator can be compared; samples that one of them
    misclassifies are left out for it. Directions without a margin count as the largest measurable one.

    Args:
        logits_fn: points in grid steps -> logits.
        data: where the samples come from.
        config: sizes.
        classes: number of classes.
        seed: of the choice of samples and directions.
        on_grid: show the victim only points of the input grid, as an accelerator must be.
        batch_size: images per call of `logits_fn`.
    """
    rng = np.random.default_rng([seed, 0xC1A55])
    directions = random_directions(config.directions, data.x[0].size, rng)
    order = rng.permutation(len(data.y))
    chosen = _first_of_each_class(data.y, order, [config.probe_samples] * classes)
    chosen = chosen[_correct(logits_fn, data, chosen, batch_size)]
    values = _margins(logits_fn, data, chosen, directions, config, on_grid, batch_size)
    smallest = np.sort(values, axis=1)[:, : config.top_directions].astype(np.float64)
    smallest /= data.grid.scale  # steps to shares of the range
    scores = np.where(np.isfinite(smallest), smallest, config.t_max * np.sqrt(data.x[0].size)).mean(axis=1)
    return tuple(_summary(label, scores[data.y[chosen] == label]) for label in range(classes))


def generate_examples(
    logits_fn: LogitsFn, train: Split, levels: tuple[Level, ...], config: FeedbackConfig, *, seed: int, round_: int
) -> Generated:
    """New examples x' = clip(x + k m d, grid), k ~ U[1.5, 2], label of x; only correctly classified x are used.

    A class with fewer such samples than its level asks for gives all it has. Directions without a margin are not
    used. A pure function of the model's outputs, `train`, `seed` and `round_`.
    """
    rng = np.random.default_rng([seed, 0xFEED, round_])
    dimension = train.x[0].size
    directions = random_directions(config.directions, dimension, rng)
    order = rng.permutation(len(train.y))
    order = order[_correct(logits_fn, train, order, BATCH)]
    chosen = _first_of_each_class(train.y, order, [samples_of_level(level, config) for level in levels])
    margins = _margins(logits_fn, train, chosen, directions, config, False, BATCH)
    nearest = np.argsort(margins, axis=1, kind="stable")[:, : config.top_directions]
    margin = np.take_along_axis(margins, nearest, axis=1)
    factor = rng.uniform(config.factor_min, config.factor_max, margin.shape)
    sample, rank = np.nonzero(np.isfinite(margin))
    signed = np.concatenate([directions, -directions])[nearest[sample, rank]]
    distance = (factor * np.where(np.isfinite(margin), margin, 0))[sample, rank].astype(np.float32)
    moved = train.x[chosen[sample]] + (distance[:, None] * signed).reshape(-1, *train.x.shape[1:])
    y: Labels = train.y[chosen[sample]]
    new = Split(train.grid.nearest(moved), y, train.grid)
    return Generated(new, tuple(np.bincount(y, minlength=len(levels)).tolist()))


def _margins(
    logits_fn: LogitsFn,
    data: Split,
    chosen: NDArray[np.intp],
    directions: NDArray[np.float32],
    config: FeedbackConfig,
    on_grid: bool,
    batch_size: int,
) -> NDArray[np.float32]:
    """The smallest margins, in grid steps, of the chosen samples, others infinite."""
    scale = float(np.sqrt(data.x[0].size)) * data.grid.scale
    return measure_margins(
        logits_fn,
        data.x[chosen],
        data.y[chosen],
        directions,
        t_start=config.t_start * scale,
        t_max=config.t_max * scale,
        growth=config.growth,
        tolerance=config.tolerance,
        smallest=config.top_directions,
        snap=data.grid.nearest if on_grid else None,
        batch_size=batch_size,
    ).values


def _first_of_each_class(y: Labels, order: NDArray[np.intp], counts: list[int]) -> NDArray[np.intp]:
    """The first `counts[label]` indices of each class in `order`."""
    return np.concatenate([order[y[order] == label][:count] for label, count in enumerate(counts)])


def _correct(logits_fn: LogitsFn, data: Split, indices: NDArray[np.intp], batch_size: int) -> NDArray[np.bool_]:
    """Which of these samples are classified correctly."""
    found = np.empty(len(indices), np.bool_)
    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        found[start : start + batch_size] = logits_fn(data.x[part]).argmax(axis=1) == data.y[part]
    return found


def _summary(label: int, scores: NDArray[np.float64]) -> ClassMargin:
    """A class without a correctly classified sample has margin 0: nothing is less robust."""
    if not len(scores):
        return ClassMargin(label, 0, 0.0, 0.0, 0.0)
    return ClassMargin(label, len(scores), float(scores.mean()), float(scores.min()), float(scores.std()))
