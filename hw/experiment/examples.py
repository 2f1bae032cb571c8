"""A few attacked images with what every victim says about them, for the report: kept, so that it loads no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.experiment.attacks import accelerator_of, attacked_images, job_path, load_result, sources, strongest
from hw.experiment.run import Run
from qmodels.data import Dataset
from qmodels.grid import Codes
from qmodels.metrics.masking import Row
from qmodels.victims import Labels, predictions

MOST = 8  # inputs shown
CHANGES = 5  # numbers shown of an input that is no picture


def pick_examples(run: Run, rows: Sequence[Row]) -> dict[str, Any]:
    """The first test image of each class, clean and as the quantized model's strongest attack left it.

    Which images are shown does not depend on whether the attack succeeded. Empty when nothing was attacked.

    Args:
        run: evaluated, its examples stored.
        rows: of its results; they say which attack was strongest, in the ball of the headline table.
    """
    job = strongest(run, rows)
    result = load_result(job_path(run, job)) if job is not None else None
    if job is None or result is None:
        return {}
    x, y = attacked_images(run).take(len(result.x))
    chosen = np.sort(np.unique(y, return_index=True)[1])[:MOST]
    clean, attacked = x[chosen], result.x[chosen]
    victims = [*sources(run), accelerator_of(run)]
    answers = [predictions(c.victim, np.concatenate([clean, attacked])).reshape(2, -1) for c in victims]
    return {
        "attack": job.label,
        "epsilon_lsb": job.epsilon_lsb,
        **job.radius.as_json(),
        "source": f"{job.source.label}/{job.source.victim.name}",
        "shape": list(x.shape[1:]),
        **({"labels": list(run.data.labels)} if run.data.labels else {}),
        "victims": [{"model": c.label, "victim": c.victim.name, "bits": c.bits} for c in victims],
        "samples": [
            {
                "index": int(index),
                "label": int(y[index]),
                **_shown(run.data, clean[place], attacked[place]),
                "answers": [_both(answer, place) for answer in answers],  # [clean, attacked] per victim
            }
            for place, index in enumerate(chosen)
        ],
    }


def _shown(data: Dataset, clean: Codes, attacked: Codes) -> dict[str, Any]:
    """8-bit inputs as pixels; of others the numbers that changed most, in the user's own unit."""
    if clean.dtype == np.uint8 and clean.ndim > 1:
        return {"clean": _pixels(clean), "attacked": _pixels(attacked)}
    change = np.abs(attacked.astype(np.int64) - clean).reshape(-1)
    most = [place for place in np.argsort(-change, kind="stable")[:CHANGES] if change[place] > 0]
    before, after = (data.inputs.unscaled(data.grid.to_values(codes)).reshape(-1) for codes in (clean, attacked))
    return {
        "changes": [
            {"feature": _feature(data, int(place)), "clean": float(before[place]), "attacked": float(after[place])}
            for place in most
        ]
    }


def _feature(data: Dataset, place: int) -> str:
    """Name of the number at a place of the flat input."""
    *where, feature = (int(index) for index in np.unravel_index(place, data.input_shape))
    name = data.inputs.names[feature] if data.inputs.names else str(feature)
    return f"{name} at {', '.join(map(str, where))}" if where else name


def _pixels(image: Codes) -> str:
    """The input's codes as the device gets them, in base64."""
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()


def _both(answer: Labels, place: int) -> list[int]:
    return [int(answer[0, place]), int(answer[1, place])]
