"""Gates, for benchmarks/rtl.py: how far estimates are from what Yosys counts, and what a way of rounding costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Report
from benchmarks.rtl_designs import Made, designs
from hw.accelerator import Accelerator
from hw.cost.rtl_luts import activation_bits, calibrate, rtl_luts, unrolled
from hw.generate.hardware import HardwareConfig
from hw.rtl.synthesis import Gates
from qmodels.architectures import ModelConfig, build_float
from qmodels.attacks import PGD, WorstCase
from qmodels.data import Dataset, load_data
from qmodels.quantize.model import QuantizationConfig, quantize_model
from qmodels.runtime import runtime
from qmodels.victims import accuracy


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
        return {"network": self.made.network, "bits": self.made.bits, **counted, **features, **errors}


def luts(report: Report, quick: bool, folder: Path) -> None:
    """Yosys over drawn designs; every second one calibrates hw/cost/rtl_luts.py, the others judge it."""
    made = [one for one in designs(1 if quick else 2) if not quick or one.bits % 3 == 2]
    rtls = [one.accelerator.rtl() for one in made]
    for one in made:
        _ = one.accelerator.cost  # in this thread: TensorFlow and hls4ml are not asked from several
    with ThreadPoolExecutor(2) as pool:
        counted = [Counted(*pair) for pair in zip(made, pool.map(lambda rtl: rtl.gates, rtls), strict=True)]
    report.details["designs"] = [one.as_json() for one in counted]
    for one in counted:
        print(f"  {one.made!s:14s} {one.gates.luts:6d} LUT, before {one.before:+.0%}, after {one.after:+.0%}")
    if not quick:
        found = calibrate([(one.adder_bits, one.activations, one.gates.luts) for one in counted[::2]])
        report.details["calibrated"] = found
        print("  LUTS_PER_ADDER_BIT = {:.3f}, LUTS_PER_ACTIVATION_BIT = {:.3f}".format(*found))
    judges = counted if quick else counted[1::2]
    for name, errors in (("before", [abs(o.before) for o in judges]), ("after", [abs(o.after) for o in judges])):
        note = f"{len(judges)} of {len(counted)} designs judge" + (", of another size than calibrated" if quick else "")
        report.figure(f"lut_error_median_{name}", statistics.median(errors), note)
        report.figure(f"lut_error_largest_{name}", max(errors))


METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"method": "uniform"},
    "power-of-two": {"method": "power-of-two"},
    "µ-law codebook, µ = 3": {"method": "codebook", "codebook": {"mu": 3.0}},
    "µ-law codebook, µ = 15": {"method": "codebook", "codebook": {"mu": 15.0}},
}
EPSILON = 8.0


def storage(report: Report, quick: bool, folder: Path) -> None:
    """Three bits a weight, rounded in several ways, on one network: gates beside accuracy and the worst case."""
    data = load_data("digits", seed=0)
    model = _train(data, 4 if quick else 8)
    rows = {}
    for name, settings in METHODS.items():
        config = QuantizationConfig(weight_bits=3, activation_bits=5, **settings)
        quantized = quantize_model(model, config, data.train.values).model
        accelerator = Accelerator(quantized, HardwareConfig())
        few = data.test.take(50 if quick else 200)
        row: dict[str, Any] = {"clean": accuracy(accelerator, data.test.x, data.test.y), "attacked": len(few.x)}
        for key, attack in (("pgd", PGD(steps=20)), ("worst_case", WorstCase())):
            (attacked,) = accelerator.attack(attack, few.x, few.y, epsilons=[EPSILON])
            row[key] = float(1 - attacked.success.mean())
        gates = accelerator.rtl().gates
        row |= {"luts": gates.luts, "flip_flops": gates.flip_flops, "levels": gates.levels}
        rows[name] = row | {"adder_bits": accelerator.cost.adder_bits, "rtl_luts_estimated": accelerator.cost.rtl_luts}
        print(f"  {name:24s} {rows[name]}", flush=True)
    report.details["storage"] = {"network": f"digits MLP 64-{4 if quick else 8}-10", "rows": rows}
    dearest = max(row["luts"] / rows["uniform"]["luts"] - 1 for row in rows.values())
    report.figure("luts_over_uniform_largest", dearest, "LUTs of another way to round than uniform, 3 bits")


def _train(data: Dataset, hidden: int) -> Any:
    """A small MLP on the digits."""
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    shape = ModelConfig(architecture="mlp", hidden=(hidden,))
    model = build_float(shape, data.input_shape, data.classes, seed=0)
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.train.values, data.train.y, epochs=40, batch_size=64, verbose=0)
    return model


PARTS = {"luts": luts, "storage": storage}
