"""A few attacked inputs with what every victim says about them, for the report: kept, so that it loads no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import attacked_images, job_path, load_result, strongest
from hw.experiment.contestants import Contestant, accelerator_of, sources
from hw.experiment.run import Run
from qmodels.criteria import Truth
from qmodels.data import Dataset
from qmodels.grid import Codes
from qmodels.metrics.masking import Row
from qmodels.victims import decisions

MOST = 8  # inputs shown
CHANGES = 5  # numbers shown of an input that is no picture


def pick_examples(run: Run, rows: Sequence[Row]) -> dict[str, Any]:
    """The first test inputs, one of each class, clean and as the quantized model's strongest attack left them.

    Which inputs are shown does not depend on whether the attack succeeded. Empty when nothing was attacked.

    Args:
        run: evaluated, its examples stored.
        rows: of its results; they say which attack was strongest, in the ball of the headline table.
    """
    job = strongest(run, rows)
    result = load_result(job_path(run, job)) if job is not None else None
    if job is None or result is None:
        return {}
    x, y = attacked_images(run).take(len(result.x))
    chosen = _chosen(run, y)
    clean, attacked = x[chosen], result.x[chosen]
    victims = [*sources(run), accelerator_of(run)]
    answers = [_answers(run, c, clean, attacked, y[chosen]) for c in victims]
    return {
        "attack": job.label,
        "epsilon_lsb": job.epsilon_lsb,
        **job.radius.as_json(),
        "source": f"{job.source.label}/{job.source.victim.name}",
        "task": run.task.kind,
        "shape": list(x.shape[1:]),
        "dtype": str(x.dtype),
        "step": run.data.grid.step.tolist(),
        **({"labels": list(run.data.labels)} if run.data.labels else {}),
        "victims": [{"model": c.label, "victim": c.victim.name, "bits": c.bits} for c in victims],
        "samples": [
            {
                "index": int(run.attackable[index]),
                "label": np.asarray(y[index]).tolist(),
                "clean": _pixels(clean[place]),
                "attacked": _pixels(attacked[place]),
                **_changes(run.data, clean[place], attacked[place]),
                "answers": [answer[place] for answer, _ in answers],  # [clean, attacked] per victim
                "right": [right[place] for _, right in answers],
            }
            for place, index in enumerate(chosen)
        ],
    }


def _changes(data: Dataset, clean: Codes, attacked: Codes) -> dict[str, Any]:
    """Of an input that is no picture the numbers that changed most, in your own unit."""
    if clean.dtype == np.uint8 and clean.ndim > 1:
        return {}
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


def _chosen(run: Run, y: Truth) -> NDArray[np.intp]:
    """The first of each class, or where there are no classes to tell apart the first ones."""
    if run.task.kind in ("classes", "binary"):
        return np.sort(np.unique(y, return_index=True)[1])[:MOST]
    return np.arange(len(y))[:MOST]


def _answers(run: Run, victim: Contestant, clean: Codes, attacked: Codes, y: Truth) -> tuple[list[Any], list[Any]]:
    """Per input: the answers, clean and attacked (a class, outputs, or a score), and whether they are right."""
    right = run.task.right(victim.victim, clean, y)
    outputs = [victim.victim.logits(x) for x in (clean, attacked)]
    judged = [~run.task.criterion.wrong(part, right) for part in outputs]
    plain = [decisions(part) if run.task.kind in ("classes", "binary") else part for part in outputs]
    return _pairs(plain), _pairs(judged)


def _pairs(both: Sequence[NDArray[Any]]) -> list[Any]:
    return [[first.tolist(), second.tolist()] for first, second in zip(*both, strict=True)]


def _pixels(image: Codes) -> str:
    """The input's codes as the device gets them, in base64."""
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()
