"""Clean accuracy on more test images than are attacked: of every model, and bit for bit the same on the accelerator."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from hw.experiment.attacks import concerned_images
from hw.experiment.run import Run
from hw.simulate.exactness import Known, require_exact


def clean_accuracy(run: Run) -> dict[str, Any] | None:
    """Accuracy of the float model, the QKeras model and the accelerator; None where the config does not ask for it.

    Raises:
        ExactnessError: the accelerator and the QKeras model must agree, and differ in one bit.
    """
    wanted = run.config.evaluation.clean_samples
    if wanted is None:
        return None
    x, y = concerned_images(run).take(wanted)
    noted, seconds = {}, {}
    quantized = run.quantized if run.has_model else None
    for victim in (run.mapped_victim or run.float_victim, quantized, run.device):
        if victim is None:  # the user brought a QKeras model
            continue
        start = perf_counter()
        noted[victim.name] = Known(victim.name, victim.logits(x), run.data.grid)
        seconds[victim.name] = perf_counter() - start
    accuracies = {name: run.task.accuracy(run.task.view(known), x, y) for name, known in noted.items()}
    found = {"images": len(y), "accuracy": accuracies, "seconds": seconds}
    if run.exactness == "required":
        exact = require_exact(noted[run.quantized.name], noted[run.accelerator.name], x)
        found["mismatched_outputs"] = exact.mismatched_outputs
    return found
