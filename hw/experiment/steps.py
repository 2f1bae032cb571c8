"""What each step does. Every function takes the run and returns the names of the files it left."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from hw.experiment.attacks import run_attacks
from hw.experiment.bench_inputs import clean_bench, full_bench
from hw.experiment.black_box import train_black_box
from hw.experiment.examples import pick_examples
from hw.experiment.gate import pass_gate
from hw.experiment.pipeline import Step
from hw.experiment.run import Run
from hw.experiment.scoring import evaluate
from hw.simulate.exactness import probe_inputs
from hw.synth.record import stored_synthesis
from qmodels.architectures import build_float
from qmodels.grid import EXTREMES
from qmodels.metrics.lipschitz_tables import bits_rows, lipschitz_rows
from qmodels.metrics.masking import Row
from qmodels.quantize.batch_norm import fold_batch_norm
from qmodels.quantize.layers import is_quantized
from qmodels.quantize.mulaw import map_weights
from qmodels.quantize.selection import quantize_as_asked
from qmodels.runtime import copy_model
from qmodels.storage import atomic_folder, save_model, write_bytes, write_json
from qmodels.training import train
from qmodels.training.aware import train_aware


def train_step(run: Run) -> tuple[str, ...]:
    """Train the float model, or take the user's own; batch normalization is folded away."""
    if run.own_model is not None:
        return _adopt(run)
    model = build_float(run.config.model, run.data.input_shape, run.data.classes, run.config.seed)
    report = train(
        model,
        run.config.training,
        run.data.train,
        run.data.validation,
        seed=run.config.seed,
        checkpoint_dir=run.folder / "checkpoints",
    )
    save_model(fold_batch_norm(model), run.folder / "model.keras")
    write_json(run.folder / "training.json", report.as_json())
    return "model.keras", "training.json"


def _adopt(run: Run) -> tuple[str, ...]:
    """The user's model: float Keras goes on to mapping and quantization, QKeras straight to the accelerator."""
    name = "quantized.keras" if is_quantized(run.own_model) else "model.keras"
    for stale in ("model.keras", "mapped.keras", "quantized.keras", "repair.json"):  # of an earlier config of this run
        (run.folder / stale).unlink(missing_ok=True)
    save_model(run.own_model if is_quantized(run.own_model) else fold_batch_norm(run.own_model), run.folder / name)
    change = run.repair_change()
    if run.repaired is None or change is None:
        return (name,)
    write_json(run.folder / "repair.json", {"repairs": run.repaired.repairs, "change": asdict(change)})
    return name, "repair.json"


def aware_step(run: Run) -> tuple[str, ...]:
    """Train on through the mapping and the quantizers, where the config asks for it."""
    names = ("latent.keras", "formats.json", "aware.json")
    for stale in names:  # of an earlier config of this run
        (run.folder / stale).unlink(missing_ok=True)
    config = run.config
    if config.training.quantization_aware is None or run.float_model is None or run.own_model is not None:
        return ()
    latent = copy_model(run.float_model)
    report, formats = train_aware(
        latent,
        config.training,
        config.quantization,
        config.mapping,
        run.data.train,
        run.data.validation,
        seed=config.seed,
        checkpoint_dir=run.folder / "checkpoints" / "aware",
    )
    save_model(latent, run.folder / "latent.keras")
    write_json(run.folder / "formats.json", [item.as_json() for item in formats.values()])
    write_json(run.folder / "aware.json", report.as_json())
    return names


def map_step(run: Run) -> tuple[str, ...]:
    """Map the chosen layers' weights by the µ-law."""
    model = run.latent_model or run.float_model
    if model is None:
        return ()
    mapped, layers = map_weights(model, run.config.mapping)
    save_model(mapped, run.folder / "mapped.keras")
    write_json(run.folder / "mapping.json", {"mu": run.config.mapping.mu, "layers": layers})
    return "mapped.keras", "mapping.json"


def quantize_step(run: Run) -> tuple[str, ...]:
    """Round weights and calibrate activations on training images."""
    if run.mapped_model is None:
        return ()
    (run.folder / "layerwise.json").unlink(missing_ok=True)  # of an earlier config of this run
    quantized, selection = quantize_as_asked(
        run.mapped_model,
        run.config.quantization,
        run.data.train,
        run.data.validation,
        seed=run.config.seed,
        formats=run.trained_formats(),
    )
    save_model(quantized.model, run.folder / "quantized.keras")
    write_json(run.folder / "quantization.json", [formats.as_row() for formats in quantized.formats])
    if selection is None:
        return "quantized.keras", "quantization.json"
    write_json(run.folder / "layerwise.json", selection.as_json())
    return "quantized.keras", "quantization.json", "layerwise.json"


def project_step(run: Run) -> tuple[str, ...]:
    """Generate the HLS project into `hls/`, replacing an older one whole."""
    with atomic_folder(run.folder / "hls") as fresh:
        run.project.write(fresh)
        # Until the attacks are there; not an output of this step: a later one replaces it.
        clean_bench(run).write(fresh)
    write_json(
        run.folder / "project.json",
        {
            "digest": run.project.digest,
            "files": len(run.project.files),
            "warnings": [str(warning) for warning in run.design.warnings],
        },
    )
    write_json(run.folder / "cost.json", run.design.cost.as_json())
    return ("project.json", "cost.json", *(f"hls/{name}" for name in run.project.files))


def simulate_step(run: Run) -> tuple[str, ...]:
    """Build the simulators and hold them against the QKeras model on clean, random and extreme inputs."""
    clean = run.data.test.take(run.config.evaluation.samples).x
    images = probe_inputs(run.data.grid, clean, run.config.simulation.verify_random, run.config.seed)
    record = pass_gate(run, images, adversarial=False, always=EXTREMES)
    write_json(run.folder / "simulation.json", asdict(record))
    return ("simulation.json",)


def attack_step(run: Run) -> tuple[str, ...]:
    """Make adversarial examples; every finished one is kept, so that a stopped step goes on where it was."""
    return (*train_black_box(run), *run_attacks(run))


def testbench_step(run: Run) -> tuple[str, ...]:
    """Put clean and adversarial inputs, with the outputs they must give, into the HLS project's test bench."""
    bench = full_bench(run)
    names = bench.write(run.folder / "hls")
    record = {
        "digest": bench.digest,
        "project_digest": run.project.digest,
        "inputs": len(bench.inputs),
        "adversarial_inputs": bench.adversarial,
    }
    write_json(run.folder / "testbench.json", record)
    return ("testbench.json", *(f"hls/{name}" for name in names))


def evaluate_step(run: Run) -> tuple[str, ...]:
    """Score all examples on all victims, the accelerator included, and flag what is not to be believed."""
    results = evaluate(run) | stored_synthesis(run.folder.path) | _weights_measured(run)
    write_json(run.folder / "examples.json", pick_examples(run, [Row.from_json(row) for row in results["rows"]]))
    write_json(run.folder / "results.json", results)
    return "results.json", "examples.json"


def _weights_measured(run: Run) -> dict[str, Any]:
    """||W|| and ||ΔW|| of every layer, over the bits too, and the layer-wise choice; nothing for a QKeras model."""
    if run.mapped_model is None:
        return {}
    path = run.folder / "layerwise.json"
    chosen = {"layerwise": json.loads(path.read_text())} if path.exists() else {}
    return chosen | {
        "lipschitz": lipschitz_rows(run.mapped_model, run.quantized_model),
        "lipschitz_by_bits": bits_rows(run.mapped_model, run.config.quantization),
    }


def report_step(run: Run) -> tuple[str, ...]:
    """The self-contained HTML report."""
    from hw.report import html_report, load_run

    write_bytes(run.folder / "report.html", html_report([load_run(run.folder.path)]).encode())
    return ("report.html",)


STEPS = (
    Step("train", ("data", "model", "training"), (), train_step),
    Step("aware", ("data", "training", "mapping", "quantization"), ("train",), aware_step),
    Step("map", ("mapping",), ("train", "aware"), map_step),
    Step("quantize", ("quantization", "data"), ("aware", "map"), quantize_step),
    Step("project", ("hardware", "testbench"), ("train", "quantize"), project_step),
    Step(
        "simulate",
        ("hardware", "simulation", "evaluation.samples", "data"),
        ("train", "quantize", "project"),
        simulate_step,
    ),
    Step("attack", ("hardware", "evaluation", "data"), ("train", "map", "quantize"), attack_step),
    Step("testbench", ("testbench", "evaluation", "data"), ("quantize", "project", "attack"), testbench_step),
    Step(
        "evaluate",
        ("evaluation", "hardware", "simulation", "data"),
        ("project", "simulate", "attack"),
        evaluate_step,
    ),
    Step("report", ("name",), ("evaluate",), report_step),
)
