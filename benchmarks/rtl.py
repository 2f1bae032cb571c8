"""RTL by open tools: bits in Verilator, gates from Yosys, and how far our estimate is from them.

Figures: designs_exact, rtl_mismatches, lut_error_median_before, lut_error_median_after, inputs_per_second; the largest
errors too. Every second design calibrates hw/cost/rtl_luts.py, the others judge it. Seconds mind a busy machine.

    python benchmarks/rtl.py [--quick] [--only luts bits storage] [--calibrate] [--json OUT]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.common import Report, parser  # noqa: E402
from hw.accelerator import Accelerator  # noqa: E402
from hw.cost.rtl_luts import activation_bits, calibrate, rtl_luts, unrolled  # noqa: E402
from hw.generate.hardware import HardwareConfig  # noqa: E402
from hw.rtl.synthesis import Gates  # noqa: E402
from qmodels.architectures import ModelConfig, build_float  # noqa: E402
from qmodels.attacks import PGD  # noqa: E402
from qmodels.data import Dataset, load_data  # noqa: E402
from qmodels.formats import FixedPoint  # noqa: E402
from qmodels.grid import InputGrid  # noqa: E402
from qmodels.quantize.model import QuantizationConfig, quantize_model  # noqa: E402
from qmodels.runtime import runtime  # noqa: E402
from qmodels.victims import accuracy  # noqa: E402

GRID = InputGrid(FixedPoint(6, 1))
NETWORKS = ("mlp", "wide", "conv")
SHAPES = {"mlp": (1, 12, 1), "wide": (1, 8, 1), "conv": (4, 4, 1)}


@dataclass(frozen=True)
class Made:
    """A design: which network, how many bits, and what hls4ml makes of it."""

    network: str
    bits: int
    accelerator: Accelerator

    def __str__(self) -> str:
        return f"{self.network} {self.bits} bits"


def make(network: str, bits: int, scale: int = 1, seed: int = 0) -> Made:
    """A network whose weights have `bits` bits and are drawn; activations have as many, and three at least."""
    q, keras = runtime().qkeras, runtime().keras
    rng, levels = np.random.default_rng([seed, bits, NETWORKS.index(network)]), 1 << (bits - 1)
    kernel = {f"{which}_quantizer": q.quantized_bits(bits, 0, alpha=1) for which in ("kernel", "bias")}
    relu = f"quantized_relu({max(bits, 3)},1)"
    x = image = keras.Input(SHAPES[network], name="image")
    x = q.QActivation("quantized_bits(6,1,alpha=1)", name="grid")(x)
    if network == "conv":
        x = q.QConv2D(2 * scale, 2, name="conv", **kernel)(x)
        x = q.QActivation(relu, name="conv_act")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for i, width in enumerate({"mlp": (6, 5), "wide": (12,), "conv": ()}[network]):
        x = q.QDense(width * scale, name=f"dense{i}", **kernel)(x)
        x = q.QActivation(relu, name=f"act{i}")(x)
    model = keras.Model(image, q.QDense(3, name="logits", **kernel)(x), name=network)
    for layer in model.layers:
        if layer.get_weights():
            drawn = [np.rint(rng.normal(size=w.shape) * levels / 2.5) for w in layer.get_weights()]
            layer.set_weights([np.clip(w, -levels + 1, levels - 1) / levels for w in drawn])
    return Made(network, bits, Accelerator(model, HardwareConfig(project_name="bench"), grid=GRID))


def designs(scale: int) -> Iterator[Made]:
    """Three networks at 2 to 8 bits."""
    for network in NETWORKS:
        for bits in range(2, 9):
            yield make(network, bits, scale)


@dataclass(frozen=True)
class Counted:
    """A design with what Yosys counts, and what is estimated before."""

    made: Made
    gates: Gates

    @property
    def adder_bits(self) -> int:
        """alkaid's, of all products at every position."""
        return self._unrolled([layer.adder_bits for layer in self.made.accelerator.cost.layers])

    @property
    def activations(self) -> int:
        """Bits that activations make."""
        return activation_bits(self.made.accelerator.graph)

    @property
    def estimated(self) -> int:
        """`luts_estimated` of all products at every position."""
        return self._unrolled([layer.luts_estimated for layer in self.made.accelerator.cost.layers])

    def _unrolled(self, figures: Sequence[int | None]) -> int:
        return unrolled(self.made.accelerator.graph, figures) or 0

    @property
    def before(self) -> float:
        """Relative error of `luts_estimated`, which was made for the vendor's project."""
        return self.estimated / self.gates.luts - 1

    @property
    def after(self) -> float:
        """Relative error of the calibrated estimate."""
        return (rtl_luts(self.adder_bits, self.activations) or 0) / self.gates.luts - 1

    def as_json(self) -> dict[str, Any]:
        """For the report's details."""
        counted = {key: value for key, value in vars(self.gates).items() if key != "netlist"}
        features = {"adder_bits": self.adder_bits, "activation_bits": self.activations}
        errors = {"luts_estimated": self.estimated, "before": self.before, "after": self.after}
        return {"design": str(self.made), **counted, **features, **errors}


def luts(report: Report, quick: bool, calibrating: bool) -> None:
    """Yosys over the designs; half of them calibrate, the other half judges."""
    made = list(designs(1 if quick else 2))
    rtls = [one.accelerator.rtl() for one in made]
    for one in made:
        _ = one.accelerator.cost  # in this thread: TensorFlow and hls4ml are not asked from several
    with ThreadPoolExecutor(2) as pool:
        counted = [Counted(*pair) for pair in zip(made, pool.map(lambda rtl: rtl.gates, rtls), strict=True)]
    report.details["designs"] = [one.as_json() for one in counted]
    for one in counted:
        print(f"  {one.made!s:14s} {one.gates.luts:6d} LUT, before {one.before:+.0%}, after {one.after:+.0%}")
    if calibrating:
        found = calibrate([(one.adder_bits, one.activations, one.gates.luts) for one in counted[::2]])
        print("  LUTS_PER_ADDER_BIT = {:.3f}, LUTS_PER_ACTIVATION_BIT = {:.3f}".format(*found))
    judges = counted[1::2]
    for name, errors in (("before", [abs(o.before) for o in judges]), ("after", [abs(o.after) for o in judges])):
        note = f"{len(judges)} of {len(counted)} designs judge"
        report.figure(f"lut_error_median_{name}", statistics.median(errors), note)
        report.figure(f"lut_error_largest_{name}", max(errors))


def bits(report: Report, quick: bool, calibrating: bool) -> None:
    """Verilator against bitsim on every bit, csim on a part of the inputs."""
    count, exact, mismatches, rates = 10_000, 0, 0, []
    chosen = [make(network, width) for network in NETWORKS for width in ((3,) if quick else range(2, 9))]
    for one in chosen:
        rng, shape = np.random.default_rng(1), SHAPES[one.network]
        x = np.concatenate([GRID.random(count // 2, shape, rng), GRID.random_ends(count // 2, shape, rng)])
        x = np.concatenate([x, GRID.extremes(shape)])
        rtl, bitsim = one.accelerator.rtl(), one.accelerator.bitsim.logits(x)
        _ = rtl.verilated
        started = time.perf_counter()
        found = rtl.logits(x)
        rates.append(len(x) / (time.perf_counter() - started))
        part = slice(-200, None)
        differing = int((found != bitsim).sum())
        differing += int((one.accelerator.compile(optimize=False).logits(x[part]) != bitsim[part]).sum())
        exact, mismatches = exact + (differing == 0), mismatches + differing
    report.figure("designs_exact", exact, f"of {len(chosen)}, {count:,} inputs each, 200 of them in csim")
    report.figure("rtl_mismatches", mismatches, "outputs")
    report.figure("inputs_per_second", statistics.median(rates), "through Verilator, one process")


METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"method": "uniform"},
    "power-of-two": {"method": "power-of-two"},
    "codebook µ=3": {"method": "codebook", "codebook": {"mu": 3.0}},
    "codebook µ=15": {"method": "codebook", "codebook": {"mu": 15.0}},
}


def storage(report: Report, quick: bool, calibrating: bool) -> None:
    """Three bits a weight, rounded in several ways, on one network: gates beside accuracy."""
    data = load_data("digits", seed=0)
    trained = train(data, 8 if quick else 24)
    for name, settings in METHODS.items():
        config = QuantizationConfig(weight_bits=3, activation_bits=5, **settings)
        quantized = quantize_model(trained, config, data.train.values).model
        accelerator = Accelerator(quantized, HardwareConfig())
        few = data.test.take(200)
        (attacked,) = accelerator.attack(PGD(steps=20), few.x, few.y, epsilons=[8.0])
        clean, gates = accuracy(accelerator, data.test.x, data.test.y), accelerator.rtl().gates
        row = {"luts": gates.luts, "flip_flops": gates.flip_flops, "levels": gates.levels, "clean": clean}
        row |= {"pgd_8_lsb": float(1 - attacked.success.mean()), "adder_bits": accelerator.cost.adder_bits}
        report.details.setdefault("storage", {})[name] = row
        print(f"  {name:14s} {row}")


def train(data: Dataset, hidden: int) -> Any:
    """A small MLP on the digits."""
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    shape = ModelConfig(architecture="mlp", hidden=(hidden,))
    model = build_float(shape, data.input_shape, data.classes, seed=0)
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.train.values, data.train.y, epochs=40, batch_size=64, verbose=0)
    return model


PARTS: dict[str, Callable[[Report, bool, bool], None]] = {"luts": luts, "bits": bits, "storage": storage}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen parts; 1 when a bit differs."""
    options = parser(__doc__, PARTS)
    options.add_argument("--calibrate", action="store_true", help="print the constants of hw/cost/rtl_luts.py anew")
    chosen = options.parse_args(arguments)
    report = Report()
    for part in chosen.only:
        PARTS[part](report, chosen.quick, chosen.calibrate)
    report.write(chosen.json)
    return int(report.figures.get("rtl_mismatches", 0) > 0)


if __name__ == "__main__":
    sys.exit(main())
