"""A run's float model as `.tflite` files, beside its accelerator: `robust-hls export`."""

from __future__ import annotations

from pathlib import Path

from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.pipeline import FlowStep, steps_until
from hw.experiment.run import Run
from qmodels.errors import UserError
from qmodels.storage import write_bytes, write_json
from qmodels.tflite import TFLiteVictim
from qmodels.tflite.export import TARGETS, export_tflite
from qmodels.victims import accuracy

FOLDER = Path("tflite")


def export_step(run: Run) -> tuple[str, ...]:
    """float32, int8 and int16x8 of the model that would be quantized, and their accuracy on the test samples."""
    if run.mapped_model is None:
        raise UserError("export: there is no float model; your own model is quantized already")
    inputs = run.data.train.take(run.config.quantization.calibration_samples).values
    names, records = [], []
    for target in TARGETS:
        name = (FOLDER / f"{run.config.name}_{target}.tflite").as_posix()
        write_bytes(run.folder / name, export_tflite(run.mapped_model, target, inputs, grid=run.data.grid))
        victim = TFLiteVictim(run.folder / name, run.data.grid)
        test = run.data.test
        records.append(
            {
                "file": name,
                "precision": victim.precision,
                "calibration": len(inputs),
                "inputs": victim.inputs.told,
                "test_accuracy": accuracy(run.task.view(victim), test.x, test.y),
                "test_samples": len(test.y),
            }
        )
        names.append(name)
    write_json(run.folder / "tflite.json", records)
    return "tflite.json", *names


#: train, aware, map, export
EXPORT_FLOW = (
    *steps_until("map", MODEL_STEPS),
    FlowStep("export", ("data", "quantization.calibration_samples", "name"), ("train", "map"), export_step),
)
