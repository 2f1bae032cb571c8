"""How many numbers of the accelerator do not fit their types, layer by layer, on the test images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hw.experiment.run import Run
from qmodels.victims import Images

OVERFLOW_FILE = "overflow.json"


def overflow_record(run: Run, images: Images) -> dict[str, Any]:
    """Every layer's counts on `images`; no layers where bitsim is not the engine: csim does not count."""
    engine = run.accelerator.name
    layers = [asdict(layer) for layer in run.accelerator.overflow_report(images)] if engine == "bitsim" else []
    return {"engine": engine, "images": len(images), "layers": layers}
