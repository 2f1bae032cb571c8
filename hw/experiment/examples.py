"""A few attacked images with what every victim says about them, for the report: kept, so that it loads no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.experiment.attacks import accelerator_of, attacked_images, job_path, load_result, sources, strongest
from hw.experiment.run import Run
from qmodels.grid import Codes
from qmodels.metrics.masking import Row
from qmodels.victims import Labels, predictions

MOST = 8  # images shown


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
        "source": f"{job.source.label}/{job.source.victim.name}",
        "shape": list(x.shape[1:]),
        "victims": [{"model": c.label, "victim": c.victim.name, "bits": c.bits} for c in victims],
        "samples": [
            {
                "index": int(index),
                "label": int(y[index]),
                "clean": _pixels(clean[place]),
                "attacked": _pixels(attacked[place]),
                "answers": [_both(answer, place) for answer in answers],  # [clean, attacked] per victim
            }
            for place, index in enumerate(chosen)
        ],
    }


def _pixels(image: Codes) -> str:
    """The input's codes as the device gets them, in base64."""
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()


def _both(answer: Labels, place: int) -> list[int]:
    return [int(answer[0, place]), int(answer[1, place])]
