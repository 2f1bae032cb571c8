"""Clean accuracy on more test images than are attacked: of every model, and bit for bit the same on the accelerator."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from hw.exactness import require_exact
from hw.flow.run import Run
from qmodels.victims import predictions


def clean_accuracy(run: Run) -> dict[str, Any] | None:
    """Accuracy of the float model, the QKeras model and the accelerator; None where the config does not ask for it.

    Raises:
        ExactnessError: the accelerator and the QKeras model differ in one bit.
    """
    wanted = run.config.evaluation.clean_samples
    if wanted is None:
        return None
    x, y = run.data.test.take(wanted)
    exact = require_exact(run.quantized, run.accelerator, x)
    accuracies, seconds = {}, {}
    for victim in (run.mapped_victim or run.float_victim, run.quantized, run.accelerator):
        if victim is None:  # the user brought a QKeras model
            continue
        start = perf_counter()
        accuracies[victim.name] = float(np.mean(predictions(victim, x) == y))
        seconds[victim.name] = perf_counter() - start
    return {
        "images": len(y),
        "accuracy": accuracies,
        "seconds": seconds,
        "mismatched_outputs": exact.mismatched_outputs,
    }
