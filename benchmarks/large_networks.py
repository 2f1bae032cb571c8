"""The networks of "David and Goliath" at full input size: generated, compiled, exact, and attacked, on made data.

resnet8 (32x32x3), mobilenet_v1_025 (96x96x3) and coffee_cnn (224x224x3), with 8-bit weights and 8- or 16-bit
activations. Weights are random, so that no training is needed: what is shown is that the accelerator is there and that
its simulators agree. `NAME_BITS_mismatches` counts outputs of bitsim and of the model that differ from hls4ml's C
simulation.

    python benchmarks/large_networks.py [--quick] [--json OUT] [--only NAME ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.models import grid_codes, grid_images, normalised  # noqa: E402

from benchmarks.common import Report, parser  # noqa: E402
from hw.accelerator import Accelerator  # noqa: E402
from hw.generate.hardware import HardwareConfig  # noqa: E402
from qmodels.architectures import ModelConfig  # noqa: E402
from qmodels.attacks import PGD, HopSkipJumpLinf, Square  # noqa: E402
from qmodels.grid import IMAGE_GRID  # noqa: E402
from qmodels.quantize.model import QuantizationConfig, quantize_model  # noqa: E402
from qmodels.quantize.prequantized import prequantize  # noqa: E402
from qmodels.victims import AcceleratorVictim, KerasVictim, predictions  # noqa: E402

NETWORKS: dict[str, tuple[tuple[int, int, int], int]] = {
    "resnet8": ((32, 32, 3), 10),
    "mobilenet_v1_025": ((96, 96, 3), 2),
    "coffee_cnn": ((224, 224, 3), 4),
}


def quantized(name: str, bits: int) -> Any:
    """The QKeras model with 8-bit weights and so many bits of activations, calibrated on made images."""
    shape, classes = NETWORKS[name]
    config = QuantizationConfig(weight_bits=8, activation_bits=bits, calibration_samples=30)
    return quantize_model(normalised(ModelConfig.model_validate({"architecture": name}), shape, classes), config,
                          grid_images(30, shape, seed=1)).model  # fmt: skip


def examine(report: Report, name: str, bits: int, images: int) -> None:
    """One network with one width of activations."""
    shape = NETWORKS[name][0]
    model = quantized(name, bits)
    started = time.perf_counter()
    accelerator = Accelerator(model, HardwareConfig(io_type="io_stream"))
    accelerator.project  # noqa: B018 - generated now
    generated = time.perf_counter() - started
    started = time.perf_counter()
    csim = accelerator.compile()
    compiled = time.perf_counter() - started
    exact = KerasVictim(prequantize(model, double=bits > 8), "quantized")
    x = np.concatenate([grid_codes(images, shape), IMAGE_GRID.extremes(shape)[:2]])
    started = time.perf_counter()
    expected = csim.logits(x)
    simulated = (time.perf_counter() - started) / len(x)
    wrong = sum(int(np.sum(victim.logits(x) != expected)) for victim in (accelerator.bitsim, exact))
    told = (
        f"of {2 * expected.size}; generate {generated:.0f} s, compile {compiled:.0f} s, csim {simulated:.2f} s an image"
    )
    report.figure(f"{name}_{bits}_mismatches", wrong, told)
    report.figure(f"{name}_{bits}_distinct", len(np.unique(expected, axis=0)), f"different outputs of {len(x)} images")
    attacked(report, f"{name}_{bits}", accelerator, exact, x[:images])


def attacked(report: Report, title: str, accelerator: Accelerator, exact: KerasVictim, x: Any) -> None:
    """With the accelerator's own answers as labels: how many survive, and bitsim = model on the examples."""
    y, wrong, standing = predictions(accelerator, x), 0, []
    victim = AcceleratorVictim(accelerator, exact.gradient_model)
    for attack in (PGD(steps=10), Square(queries=100), HopSkipJumpLinf(queries=100)):
        found = attack(victim, x, y, epsilon_lsb=4, seed=0)
        standing.append(f"{attack.label} {found.accuracy:.2f}")
        wrong += int(np.sum(accelerator.logits(found.x) != exact.logits(found.x)))
    report.figure(f"{title}_attacked_mismatches", wrong, f"epsilon 4 steps, standing: {', '.join(standing)}")


def main() -> int:
    """Run and report; 1 where one output differs."""
    asked = parser(__doc__, NETWORKS).parse_args()
    report = Report()
    for name in asked.only:
        for bits in (8, 16) if name == "resnet8" or not asked.quick else (8,):
            examine(report, name, bits, 3 if asked.quick else 8)
    report.write(asked.json)
    return int(any(value for key, value in report.figures.items() if key.endswith("mismatches")))


if __name__ == "__main__":
    sys.exit(main())
