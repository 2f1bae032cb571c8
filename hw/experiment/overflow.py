"""How many numbers of the accelerator do not fit their types, layer by layer, on the test images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hw.experiment.run import Run
from hw.experiment.stored import OverflowPart
from qmodels.grid import Codes
from qmodels.shapes import read_stored
from qmodels.storage import write_json

OVERFLOW_FILE = "overflow.json"


def overflow_record(run: Run, images: Codes) -> dict[str, Any]:
    """Every layer's counts on `images`; no layers where bitsim is not the engine: csim does not count."""
    engine = run.accelerator.name
    layers = [asdict(layer) for layer in run.accelerator.overflow_report(images)] if engine == "bitsim" else []
    return {"engine": engine, "images": len(images), "layers": layers}


def stored_overflow(run: Run) -> dict[str, Any]:
    """The simulate step's record; made now for a run that an older version simulated."""
    path = run.folder / OVERFLOW_FILE
    if not path.exists():
        write_json(path, overflow_record(run, run.data.test.take(run.config.evaluation.samples).x))
    record: dict[str, Any] = read_stored(path, OverflowPart)
    return record
