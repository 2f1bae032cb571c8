"""HLS projects: models x backends x io types x strategies, each compiled and held against QKeras bit for bit.

Also: how many public ways to break hls4ml's exactness the contract catches, and how far the cost estimate is from
public vendor reports.

    python benchmarks/projects.py [--quick] [--json OUT]
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.models import BITS, Toolbox, grid_images, qkeras_model, weight_quantizers  # noqa: E402
from helpers.vendor_designs import design_graph, vendor_reports  # noqa: E402

from benchmarks.common import Report, parser  # noqa: E402
from hw.contract import violations  # noqa: E402
from hw.cost import estimate_cost  # noqa: E402
from hw.csim import simulate  # noqa: E402
from hw.project import HardwareConfig, convert, generate  # noqa: E402
from qmodels.architectures import ModelConfig, build_float  # noqa: E402
from qmodels.errors import UserError  # noqa: E402
from qmodels.quantize.model import quantize_model  # noqa: E402
from qmodels.runtime import runtime  # noqa: E402

BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator", "Quartus", "Catapult")
SAMPLES = 200


def models() -> dict[str, Any]:
    """A CNN and an MLP on digits, as our flow quantizes them."""
    toolbox = Toolbox()
    data = toolbox.data
    mlp = build_float(ModelConfig(architecture="mlp", hidden=(16,)), data.input_shape, data.classes, seed=0)
    return {"cnn4": toolbox.quantized.model, "mlp": quantize_model(mlp, BITS, data.train.x).model}


def matrix(report: Report, quick: bool) -> None:
    """Compile and compare every cell; a cell that is refused beforehand is counted apart, with its reason."""
    cells = mismatches = 0
    known, backends = models(), ("Vitis", "Quartus") if quick else BACKENDS
    io_types, strategies = ("io_parallel", "io_stream"), ("latency",) if quick else ("latency", "resource")
    for (name, model), *cell in itertools.product(known.items(), backends, io_types, strategies):
        backend, io_type, strategy = cell
        config = HardwareConfig(backend=backend, io_type=io_type, strategy=strategy)
        title = f"{name} {backend} {io_type} {strategy}"
        images = grid_images(SAMPLES, model.input_shape[1:])
        expected = model(images).numpy()
        try:
            got = simulate(generate(model, config), model.output_shape[-1], config).logits(images)
        except UserError as error:
            report.leave_out(title, str(error).splitlines()[0])
            continue
        wrong = int(np.sum(got != expected))
        cells, mismatches = cells + 1, mismatches + wrong
        report.details[title] = wrong
        print(f"  {title:45s} {wrong} of {expected.size} outputs differ", flush=True)
    report.figure("matrix_cells", cells, "converted, compiled, run")
    report.figure("matrix_mismatches", mismatches, f"outputs that differ from QKeras, {SAMPLES} inputs a cell")


def breaks() -> dict[str, Any]:
    """Public ways to break exactness: what a model then looks like."""
    q, layers = runtime().qkeras, runtime().keras.layers
    keras = runtime().keras

    def with_kernel(text: str) -> Any:
        return qkeras_model(kernel_quantizer=q.get_quantizer(text))

    def with_activation(text: str) -> Any:
        return qkeras_model(q.QActivation(text, name="act"))

    image = keras.Input((4, 4, 1), name="image")
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
        "symmetric activation": with_activation("quantized_bits(5,1,1,alpha=1)"),
        "keep_negative=False": with_activation("quantized_bits(5,1,keep_negative=False,alpha=1)"),
        "leaky relu": with_activation("quantized_relu(6,1,0,0.25)"),
        "softmax": qkeras_model(activation="softmax"),
        "layer named input": qkeras_model(q.QDense(4, name="input", **weight_quantizers())),
    }


def contract(report: Report) -> None:
    """Every break must be told before conversion."""
    tried = breaks()
    caught = {name: violations(model) for name, model in tried.items()}
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
    demo = estimate_cost(convert(models()["cnn4"], HardwareConfig(), Path("unused")))
    report.details["cost_cnn4"] = demo.as_json()


def main() -> None:
    """All three."""
    arguments = parser(__doc__).parse_args()
    report = Report()
    contract(report)
    costs(report)
    matrix(report, arguments.quick)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
