"""HLS projects: models x backends x io types x strategies, each compiled and held against QKeras bit for bit.

Also: how many public ways to break hls4ml's exactness the contract catches, and how far the cost estimate is from
public vendor reports.

    python benchmarks/projects.py [--quick] [--json OUT] [--matrix-state FILE] [--data-dir DIR] [--cifar10-run DIR]
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.models import qkeras_model, weight_quantizers  # noqa: E402
from helpers.vendor_designs import design_graph, vendor_reports  # noqa: E402

from benchmarks.common import Report, parser  # noqa: E402
from benchmarks.project_matrix import (  # noqa: E402
    FULL_SAMPLES,
    SAMPLES,
    Cell,
    Outcome,
    models,
    run_full_size,
    run_matrix,
)
from hw.cost import estimate_cost  # noqa: E402
from hw.generate.contract import contract  # noqa: E402
from hw.generate.convert import convert  # noqa: E402
from hw.generate.hardware import HardwareConfig  # noqa: E402
from hw.tools.cache import cache_root  # noqa: E402
from qmodels.runtime import runtime  # noqa: E402


def told(cells: Iterator[tuple[Cell, Outcome]]) -> dict[str, Outcome]:
    """Print the cells as they end."""
    outcomes = {}
    for cell, outcome in cells:
        outcomes[cell.title] = outcome
        said = outcome.refused or outcome.failed or f"{outcome.wrong} of {outcome.outputs} outputs differ"
        print(f"  {cell.title:64s} {said.splitlines()[0][:100]}", flush=True)
    return outcomes


def matrix(report: Report, quick: bool, state: Path) -> None:
    """Compile and compare every cell. What the contract refuses beforehand is counted apart; a failure is a defect."""
    outcomes = told(run_matrix(quick, state))
    report.details["matrix"] = {title: asdict(outcome) for title, outcome in outcomes.items()}
    ran = [outcome for outcome in outcomes.values() if outcome.outputs]
    note = f"outputs of csim and bitsim that differ from QKeras, {SAMPLES} inputs a cell"
    report.figure("matrix_cells", len(ran), "converted, compiled, run")
    report.figure("matrix_mismatches", sum(outcome.wrong for outcome in ran), note)
    report.figure("matrix_refused", sum(bool(outcome.refused) for outcome in outcomes.values()), "told by the contract")
    report.figure("matrix_failed", sum(bool(outcome.failed) for outcome in outcomes.values()), "should have worked")


def full_size(report: Report, state: Path) -> None:
    """The same of whole networks, in one setting."""
    outcomes = told(run_full_size(state))
    report.details["full_size"] = {title: asdict(outcome) for title, outcome in outcomes.items()}
    ran = [outcome for outcome in outcomes.values() if outcome.outputs]
    note = f"outputs of csim and bitsim that differ from QKeras, {FULL_SAMPLES} images each"
    report.figure("full_size_networks", len(ran), "of " + str(len(outcomes)))
    report.figure("full_size_mismatches", sum(outcome.wrong for outcome in ran), note)


def breaks() -> dict[str, Any]:
    """Public ways to break exactness: what a model then looks like."""
    q, layers = runtime().qkeras, runtime().keras.layers
    keras = runtime().keras

    def with_kernel(text: str) -> Any:
        return qkeras_model(kernel_quantizer=q.get_quantizer(text))

    def with_activation(text: str) -> Any:
        return qkeras_model(q.QActivation(text, name="act"))

    def on_image(layer: Any) -> Any:
        x = q.QActivation("quantized_bits(9,0,alpha=1)", name="grid")(image)
        x = layers.Flatten(name="f")(layer(x))
        return keras.Model(image, q.QDense(3, name="logits", **weight_quantizers())(x))

    def dense(name: str) -> Any:
        return q.QDense(16, name=name, **weight_quantizers())

    image = keras.Input((4, 4, 1), name="image")
    twice = dense("twice")
    bare = keras.Model(image, q.QDense(3, name="logits", **weight_quantizers())(layers.Flatten(name="f")(image)))
    return {
        "input not rounded": bare,
        "alpha auto": with_kernel("quantized_bits(4,0,alpha='auto')"),
        "alpha auto_po2": with_kernel("quantized_bits(4,0,alpha='auto_po2')"),
        "alpha None": with_kernel("quantized_bits(4,0)"),
        "quantized_po2": with_kernel("quantized_po2(4)"),
        "binary": with_kernel("binary(alpha=1)"),
        "unknown quantizer": with_kernel("quantized_ulaw(4)"),
        "missing quantizer": qkeras_model(bias_quantizer=None),
        "float layer": qkeras_model(layers.Dense(4, name="plain")),
        "half an activation": with_activation("quantized_bits(5,1,alpha=0.5)"),
        "scaled bias": qkeras_model(bias_quantizer=q.quantized_bits(4, 0, alpha=0.25)),
        "leaky relu": with_activation("quantized_relu(6,1,0,0.25)"),
        "softmax": qkeras_model(activation="softmax"),
        "relu with a maximum": on_image(layers.ReLU(max_value=1.0, name="act")),
        "relu with a slope": on_image(layers.ReLU(negative_slope=0.25, name="act")),
        "relu with a threshold": on_image(layers.ReLU(threshold=1.0, name="act")),
        "real tanh": qkeras_model(q.QActivation(q.quantized_tanh(6, use_real_tanh=True), name="act")),
        "real sigmoid": qkeras_model(q.QActivation(q.quantized_sigmoid(6, use_real_sigmoid=True), name="act")),
        "symmetric sigmoid": qkeras_model(q.QActivation(q.quantized_sigmoid(6, symmetric=True), name="act")),
        "dense on an image": on_image(dense("pixelwise")),
        "a model in the model": qkeras_model(keras.Sequential([keras.Input((16,)), dense("inner")], name="block")),
        "a layer called twice": qkeras_model(twice, twice),
        "layer named input": qkeras_model(q.QDense(4, name="input", **weight_quantizers())),
    }


def contract_tells(report: Report) -> None:
    """Every break must be told before conversion."""
    tried = breaks()
    caught = {name: contract(model) for name, model in tried.items()}
    for name, found in caught.items():
        print(f"  {name:24s} {found[0] if found else 'NOT CAUGHT'}")
    report.figure("contract_tried", len(tried))
    report.figure("contract_caught", sum(bool(found) for found in caught.values()))


def costs(report: Report) -> None:
    """Estimates against public vendor reports."""
    errors = []
    for design in vendor_reports():
        cost, reported = estimate_cost(design_graph(design)), design["synthesis"] or design["csynth"]
        errors.append(abs(cost.total("luts_estimated") / reported["luts"] - 1))
        print(f"  {design['name']:34s} LUT {cost.total('luts_estimated'):8,d} against {reported['luts']:8,d}")
    report.figure("cost_error_lut_median", median(errors), f"{len(errors)} designs; largest {max(errors):.2f}")
    demo = estimate_cost(convert(models()["cnn4"], HardwareConfig()).graph)
    report.details["cost_cnn4"] = demo.as_json()


def cifar10(report: Report, folder: Path, data_dir: Path | None) -> None:
    """Accuracy of configs/cifar10.yaml's accelerator, from its finished run; where there are data, it is run first."""
    results = folder / "results.json"
    if not results.exists() and data_dir is not None:
        config = str(ROOT / "configs" / "cifar10.yaml")
        resume = ["--resume"] if folder.exists() else []
        command = [sys.executable, "-m", "hw.cli", "run", config, "--out", str(folder), "--data-dir", str(data_dir)]
        subprocess.run([*command, *resume], cwd=ROOT, check=True)
    if not results.exists():
        report.leave_out("resnet8_cifar10_accuracy", f"{folder} holds no finished run; give --data-dir to make it")
        return
    clean = json.loads(results.read_text())["clean"]
    report.details["resnet8_cifar10"] = clean
    accuracy, images = clean["accuracy"], clean["images"]
    note = f"bitsim, {images:,} test images; QKeras {accuracy['quantized']:.4f}, float {accuracy['float']:.4f}"
    report.figure("resnet8_cifar10_accuracy", accuracy["bitsim"], note)
    report.figure("resnet8_cifar10_mismatches", clean["mismatched_outputs"], "bitsim against QKeras")


def main() -> None:
    """All five."""
    arguments = parser(__doc__)
    arguments.add_argument("--matrix-state", type=Path, metavar="FILE", help="where finished cells are kept")
    arguments.add_argument("--cifar10-run", type=Path, metavar="DIR", default=ROOT / "hls_projects" / "cifar10")
    arguments.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with cifar10.npz")
    options = arguments.parse_args()
    report = Report()
    contract_tells(report)
    costs(report)
    cifar10(report, options.cifar10_run, options.data_dir)
    state = options.matrix_state or cache_root() / "matrix.json"
    if not options.quick:
        full_size(report, state)
    matrix(report, options.quick, state)
    report.write(options.json)


if __name__ == "__main__":
    main()
