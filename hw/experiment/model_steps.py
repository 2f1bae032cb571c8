"""The steps that make the models: train, aware, map, quantize. They know nothing of hardware.

Every function takes the run and returns the names of the files it left. A model of the attacker's own goes through
these steps only.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hw.experiment.pipeline import FlowStep
from hw.experiment.run import Run
from hw.generate.onnx import ONNX_FILE
from qmodels.architectures import build_float
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.mulaw import map_weights
from qmodels.quantize.selection import quantize_as_asked
from qmodels.runtime import copy_model
from qmodels.storage import save_model, write_bytes, write_json
from qmodels.tasks import CLASSES, Task
from qmodels.training import train, train_static
from qmodels.training.aware import train_aware


def train_step(run: Run) -> tuple[str, ...]:
    """Train the float model, or take your own; batch normalization is folded away."""
    if not run.has_model:
        return _adopt_onnx(run)
    if run.own_model is not None:
        return _adopt(run)
    model = build_float(run.config.model, run.data.input_shape, run.data.classes, run.config.seed)
    report = train(
        model,
        run.training,
        run.data.train,
        run.data.validation,
        seed=run.config.seed,
        checkpoint_dir=run.folder / "checkpoints",
        static=_static_models(run),
    )
    save_model(fold_batch_norm(model), run.folder / "model.keras")
    write_json(run.folder / "training.json", report.as_json())
    return "model.keras", "training.json"


def _static_models(run: Run) -> list[Any]:
    """The models that stand still while the run's is trained: an ensemble's others, or a distillation's teacher."""
    config, data = run.config, run.data

    def build(seed: int) -> Any:
        return build_float(config.model, data.input_shape, data.classes, seed)

    return train_static(
        build,
        run.training,
        data.train,
        data.validation,
        seed=config.seed,
        checkpoint_dir=run.folder / "checkpoints",
    )


def _adopt(run: Run) -> tuple[str, ...]:
    """Your model: float Keras goes on to mapping and quantization, QKeras straight to the accelerator."""
    name = "quantized.keras" if run.brings_hardware else "model.keras"
    # of an earlier config of this run:
    run.folder.remove("model.keras", "mapped.keras", "quantized.keras", "repair.json", "adopted.json")
    save_model(run.own_model if run.brings_hardware else fold_batch_norm(run.own_model), run.folder / name)
    if told := run.adopted[1]:
        write_json(run.folder / "adopted.json", {"changes": [told]})
        return name, "adopted.json"
    change = run.repair_change()
    if run.repaired is None or change is None:
        return (name,)
    record = {"repairs": run.repaired.repairs, "exact": run.repaired.exact, "change": asdict(change)}
    write_json(run.folder / "repair.json", record)
    return name, "repair.json"


def _adopt_onnx(run: Run) -> tuple[str, ...]:
    """Your ONNX file, as it is: hls4ml reads it in the project step."""
    assert run.config.model.file is not None
    write_bytes(run.folder / ONNX_FILE, run.config.model.file.read_bytes())
    return (ONNX_FILE,)


def aware_step(run: Run) -> tuple[str, ...]:
    """Train on through the mapping and the quantizers, where the config asks for it."""
    names = ("latent.keras", "formats.json", "aware.json")
    run.folder.remove(*names)  # of an earlier config of this run
    config = run.config
    if config.training.quantization_aware is None or run.float_model is None or run.own_model is not None:
        return ()
    latent = copy_model(run.float_model)
    report, formats = train_aware(
        latent,
        run.training,
        config.quantization,
        config.mapping,
        run.data.train,
        run.data.validation,
        seed=config.seed,
        checkpoint_dir=run.folder / "checkpoints" / "aware",
        static=_static_models(run),
    )
    save_model(latent, run.folder / "latent.keras")
    write_json(run.folder / "formats.json", [item.as_json() for item in formats.values()])
    write_json(run.folder / "aware.json", report.as_json())
    return names


def map_step(run: Run) -> tuple[str, ...]:
    """Equalize channels if asked for, and map the chosen layers' weights by the µ-law."""
    model, mapping = run.latent_model, run.config.mapping.without_equalizing
    if model is None:
        model, mapping = run.float_model, run.config.mapping
    if model is None:
        return ()
    mapped, layers = map_weights(model, mapping)
    save_model(mapped, run.folder / "mapped.keras")
    write_json(run.folder / "mapping.json", {"mu": run.config.mapping.mu, "layers": layers})
    return "mapped.keras", "mapping.json"


def quantize_step(run: Run) -> tuple[str, ...]:
    """Round weights and calibrate activations on training images."""
    if run.mapped_model is None:
        return ()
    run.folder.remove("layerwise.json")  # of an earlier config of this run
    quantized, selection = quantize_as_asked(
        run.mapped_model,
        run.config.quantization,
        run.data.train,
        run.data.validation,
        seed=run.config.seed,
        formats=run.trained_formats(),
        task=_judging(run),
    )
    save_model(quantized.model, run.folder / "quantized.keras")
    write_json(run.folder / "quantization.json", [formats.as_row() for formats in quantized.formats])
    if selection is None:
        return "quantized.keras", "quantization.json"
    write_json(run.folder / "layerwise.json", selection.as_json())
    return "quantized.keras", "quantization.json", "layerwise.json"


def _judging(run: Run) -> Task:
    """By what a layer-wise choice is judged: plain accuracy, or what the task asks of one or of real outputs."""
    if run.config.quantization.layerwise is None or run.task.kind == "classes":
        return CLASSES
    return replace(run.task, reference="truth")


MODEL_STEPS = (
    FlowStep("train", ("data", "model", "training"), (), train_step),
    FlowStep("aware", ("data", "training", "mapping", "quantization"), ("train",), aware_step),
    FlowStep("map", ("mapping",), ("train", "aware"), map_step),
    FlowStep("quantize", ("quantization", "data", "task"), ("aware", "map"), quantize_step),
)
