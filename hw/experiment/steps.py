"""The steps of a run, but for the report. Every function takes the run and returns the names of the files it left."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hw.experiment.attacks import run_attacks
from hw.experiment.bench_inputs import clean_bench, full_bench
from hw.experiment.black_box import train_black_box
from hw.experiment.examples import pick_examples
from hw.experiment.gate import pass_gate
from hw.experiment.model_steps import MODEL_STEPS
from hw.experiment.overflow import OVERFLOW_FILE, overflow_record
from hw.experiment.pipeline import FlowStep
from hw.experiment.run import Run
from hw.experiment.scoring import evaluate
from hw.experiment.stored import LayerwisePart
from hw.simulate.exactness import probe_inputs
from qmodels.data.inputs import short
from qmodels.grid import EXTREMES
from qmodels.metrics.masking import Row
from qmodels.quantize.lipschitz_tables import bits_rows, lipschitz_rows
from qmodels.shapes import read_stored
from qmodels.storage import write_json


def project_step(run: Run) -> tuple[str, ...]:
    """Generate the HLS project into `hls/`, replacing an older one whole."""
    accelerator = run.accelerator
    project = accelerator.project
    with run.folder.replacing("hls") as fresh:
        project.write(fresh)
        # Until the attacks are there; not an output of this step: a later one replaces it.
        clean_bench(run).write(fresh)
    write_json(
        run.folder / "project.json",
        {
            "digest": project.digest,
            "files": len(project.files),
            "warnings": [str(warning) for warning in accelerator.warnings],
            **({"scale": _scale_told(run)} if any(run.data.inputs.shifts) else {}),
        },
    )
    write_json(run.folder / "cost.json", accelerator.cost.as_json())
    return ("project.json", "cost.json", *(f"hls/{name}" for name in project.files))


def _scale_told(run: Run) -> str:
    """Whether the device reads the user's own numbers, where they are scaled by a power of two."""
    scale = ", ".join(f"{2**shift:g}" for shift in run.data.inputs.shifts)
    read = ", ".join(map(short, run.hardware_grid.formats))
    if run.hardware_grid is run.data.grid:
        return f"{scale} is not in the weights: the device reads your numbers divided by it, as {read}"
    return f"{scale} is in the first layer's weights: the device reads your numbers, as {read}"


def simulate_step(run: Run) -> tuple[str, ...]:
    """Build the simulators; hold them against each other and the model on clean, random and extreme inputs."""
    clean = run.data.test.take(run.config.evaluation.samples).x
    images = probe_inputs(run.data.grid, clean, run.config.simulation.verify_random, run.config.seed)
    write_json(run.folder / OVERFLOW_FILE, overflow_record(run, clean))  # before the gate: it may tell why that fails
    record = pass_gate(run, images, adversarial=False, always=EXTREMES)
    write_json(run.folder / "simulation.json", asdict(record))
    return "simulation.json", OVERFLOW_FILE


def attack_step(run: Run) -> tuple[str, ...]:
    """Make adversarial examples; every finished one is kept, so that a stopped step goes on where it was."""
    return (*train_black_box(run), *run_attacks(run))


def testbench_step(run: Run) -> tuple[str, ...]:
    """Put clean and adversarial inputs, with the outputs they must give, into the HLS project's test bench."""
    bench = full_bench(run)
    names = bench.write(run.folder / "hls", lambda path: run.folder.replacing(f"hls/{path.name}"))
    record = {
        "digest": bench.digest,
        "project_digest": run.accelerator.project.digest,
        "inputs": len(bench.inputs),
        "adversarial_inputs": bench.adversarial,
    }
    write_json(run.folder / "testbench.json", record)
    return ("testbench.json", *(f"hls/{name}" for name in names))


def evaluate_step(run: Run) -> tuple[str, ...]:
    """Score all examples on all victims, the accelerator included, and flag what is not to be believed."""
    results = evaluate(run) | _weights_measured(run)
    write_json(run.folder / "examples.json", pick_examples(run, [Row.from_json(row) for row in results["rows"]]))
    write_json(run.folder / "results.json", results)
    return "results.json", "examples.json"


def _weights_measured(run: Run) -> dict[str, Any]:
    """||W|| and ||ΔW|| of every layer, over the bits too, and the layer-wise choice; nothing for a QKeras model."""
    if run.mapped_model is None:  # your own quantized model, or no model at all
        return {}
    path = run.folder / "layerwise.json"
    chosen = {"layerwise": read_stored(path, LayerwisePart)} if path.exists() else {}
    return chosen | {
        "lipschitz": lipschitz_rows(run.mapped_model, run.quantized_model),
        "lipschitz_by_bits": bits_rows(run.mapped_model, run.config.quantization),
    }


#: What a run does to its models and its accelerator; the report comes after it (hw/report/step.py).
STEPS = (
    *MODEL_STEPS,
    FlowStep("project", ("hardware", "exactness", "testbench", "data"), ("train", "quantize"), project_step),
    FlowStep(
        "simulate",
        ("hardware", "exactness", "simulation", "evaluation.samples", "data"),
        ("train", "quantize", "project"),
        simulate_step,
    ),
    FlowStep(
        "attack",
        ("hardware", "exactness", "evaluation", "defence", "task", "data"),
        ("train", "map", "quantize", "project"),
        attack_step,
    ),
    FlowStep(
        "testbench",
        ("testbench", "exactness", "evaluation", "defence", "task", "data"),
        ("quantize", "project", "attack"),
        testbench_step,
    ),
    FlowStep(
        "evaluate",
        ("evaluation", "defence", "task", "hardware", "exactness", "simulation", "data"),
        ("project", "simulate", "attack"),
        evaluate_step,
    ),
)
