"""Square and HopSkipJump on one `.tflite` file: ours against the Adversarial Robustness Toolbox' (ART).

Both ask the same TensorFlow Lite interpreter (the process of `TFLiteVictim`), on the same images, with the same budget
an image. The network is ResNet-8, trained for a few epochs on CIFAR-10 ($ROBUST_HLS_DATA, or Keras' cache) and exported
as int8; without CIFAR-10 a small CNN on scikit-learn's digits. Needs `pip install adversarial-robustness-toolbox`.

ART's HopSkipJump counts rounds, not queries: it runs first, on all images, and ours gets the mean number of queries
that it used. Strength is the share of images still right where the library leaves about half of them: Square at the
radius of a list, HopSkipJump at the median L2 length of ART's own examples. `*_gap_points` is our share minus ART's:
negative is stronger. `*_vs_art` is the ratio of processor seconds an image, theirs to ours (of this process and the
interpreter's), which a busy machine disturbs less than the clock.

    python benchmarks/tflite.py [--quick] [--json OUT] [--images N]
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report, parser  # noqa: E402
from qmodels.architectures import ModelConfig, build_float  # noqa: E402
from qmodels.attacks import HopSkipJump, Square  # noqa: E402
from qmodels.data import Dataset, load_data  # noqa: E402
from qmodels.errors import RobustHlsError  # noqa: E402
from qmodels.grid import Codes, InputGrid, Values  # noqa: E402
from qmodels.quantize.batch_norm import fold_batch_norm  # noqa: E402
from qmodels.tflite import TFLiteVictim  # noqa: E402
from qmodels.tflite.export import export_tflite  # noqa: E402
from qmodels.training import TrainingConfig, train  # noqa: E402
from qmodels.victims import Labels, Logits, predictions  # noqa: E402

RADII = (1, 2, 4, 6, 8, 12, 16, 24, 32)  # grid steps
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """The victim as ART sees it: values in, logits out, queries counted."""

    victim: TFLiteVictim
    queries: int = 0

    def __call__(self, x: Values) -> Logits:
        """Logits of values."""
        self.queries += len(x)
        return self.victim.logits(self.victim.grid.to_codes(x))


@dataclass(frozen=True)
class Subject:
    """A file, images that it gets right, their labels."""

    victim: TFLiteVictim
    x: Codes
    y: Labels

    @property
    def grid(self) -> InputGrid:
        """Of the images."""
        return self.victim.grid

    def standing(self, x: Codes, radius_l2: float | None = None) -> float:
        """Share of images still right; with a radius, examples farther away do not count."""
        right = predictions(self.victim, x) == self.y
        return float((right | (self.lengths(x) > (np.inf if radius_l2 is None else radius_l2))).mean())

    def lengths(self, x: Codes) -> Any:
        """L2 lengths of the changes, in grid steps."""
        return np.linalg.norm((x.astype(np.float64) - self.x).reshape(len(x), -1), axis=1)


def data_set() -> tuple[Dataset, ModelConfig, int]:
    """CIFAR-10, if it is here, the network for it, and epochs."""
    folder = os.environ.get("ROBUST_HLS_DATA")
    try:
        data = load_data("cifar10", limit_train=10_000, data_dir=Path(folder) if folder else None)
        return data, ModelConfig(architecture="resnet8"), 6
    except RobustHlsError:
        return load_data("digits"), ModelConfig(filters=(8, 16), hidden=(32,)), 20


def subject(folder: Path, count: int) -> tuple[Subject, str]:
    """Train, export, and take the first test images that the file gets right."""
    data, config, epochs = data_set()
    model = build_float(config, data.input_shape, data.classes, seed=0)
    settings = TrainingConfig(epochs=epochs, batch_size=64, learning_rate=3e-3)
    train(model, settings, data.train, data.validation, seed=0, checkpoint_dir=folder / "checkpoints")
    path = folder / "subject.tflite"
    path.write_bytes(export_tflite(fold_batch_norm(model), "int8", data.train.values[:500], grid=data.grid))
    victim = TFLiteVictim(path, data.grid)
    x, y = data.test.take(3 * count + 200)
    right = np.flatnonzero(predictions(victim, x) == y)[:count]
    accuracy = float(np.mean(predictions(victim, data.test.x) == data.test.y))
    told = f"{config.architecture} on {data.name}, {victim.precision}, {100 * accuracy:.1f} % of test images right"
    return Subject(victim, x[right], y[right]), told


def processor_seconds(victim: TFLiteVictim) -> float:
    """Of this process and the interpreter's."""
    fields = Path(f"/proc/{victim._interpreter._child.pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / TICKS


def timed(found: Subject, call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, result."""
    before = processor_seconds(found.victim)
    result = call()
    return processor_seconds(found.victim) - before, result


def art_model(asked: Asked, found: Subject) -> Any:
    """ART's view of the file."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    ends = found.grid.format.minimum, found.grid.format.maximum
    return BlackBoxClassifierNeuralNetwork(
        asked, found.x.shape[1:], found.victim.outputs, channels_first=False, clip_values=ends
    )


def square(report: Report, found: Subject, budget: int) -> None:
    """Square in the L-infinity ball."""
    from art.attacks.evasion import SquareAttack

    grid, labels = found.grid, np.eye(found.victim.outputs, dtype=np.float32)[found.y]

    def theirs(radius: int, few: slice = slice(None)) -> tuple[Codes, int]:
        asked = Asked(found.victim)
        attack = SquareAttack(art_model(asked, found), norm=np.inf, eps=radius * float(grid.step), max_iter=budget,
                              p_init=0.8, nb_restarts=1, batch_size=256, verbose=False)  # fmt: skip
        return grid.to_codes(attack.generate(grid.to_values(found.x[few]), labels[few])), asked.queries

    few = slice(0, 50)
    part = Subject(found.victim, found.x[few], found.y[few])
    radius = min(RADII, key=lambda radius: abs(part.standing(theirs(radius, few)[0]) - 0.5))
    spent_theirs, (example, queries) = timed(found, lambda: theirs(radius))
    attack = Square(queries=budget)
    spent, ours = timed(found, lambda: attack(found.victim, found.x, found.y, epsilon_lsb=radius, seed=0))
    pair = found.standing(ours.x), found.standing(example)
    note = f"epsilon {radius} steps, budget {budget}, {len(found.y)} images, queries an image"
    note += f" {ours.queries / len(found.y):.0f} and {queries / len(found.y):.0f}"
    record(report, "square", pair, (spent, spent_theirs), len(found.y), note)


def hopskipjump(report: Report, found: Subject, rounds: int) -> None:
    """HopSkipJump in L2."""
    from art.attacks.evasion import HopSkipJump as Theirs

    asked = Asked(found.victim)
    attack = Theirs(art_model(asked, found), norm=2, max_iter=rounds, max_eval=200, init_eval=20, init_size=100,
                    verbose=False)  # fmt: skip
    spent_theirs, values = timed(found, lambda: attack.generate(found.grid.to_values(found.x)))
    example, budget = found.grid.to_codes(values), asked.queries // len(found.y)
    fooled = predictions(found.victim, example) != found.y
    radius = float(np.median(found.lengths(example)[fooled]))
    mine = HopSkipJump(queries=budget)
    spent, ours = timed(found, lambda: mine(found.victim, found.x, found.y, epsilon_lsb=np.inf, seed=0))
    pair = found.standing(ours.x, radius), found.standing(example, radius)
    lengths = [float(np.median(found.lengths(x))) for x in (ours.x, example)]
    report.details["hopskipjump_median_l2"] = {"ours": lengths[0], "art": lengths[1]}
    note = (
        f"L2 {radius:.0f} steps, {budget} queries an image, {len(found.y)} images, median length {lengths[0]:.0f} and "
    )
    record(report, "hopskipjump", pair, (spent, spent_theirs), len(found.y), f"{note}{lengths[1]:.0f}")


def record(
    report: Report, name: str, standing: tuple[float, float], seconds: tuple[float, float], images: int, note: str
) -> None:
    """The gap and the ratio; pairs are ours, ART's."""
    report.figure(
        f"{name}_gap_points",
        100 * (standing[0] - standing[1]),
        f"ours {standing[0]:.3f}, art {standing[1]:.3f}; {note}",
    )
    rates = images / seconds[0], images / seconds[1]
    report.figure(
        f"{name}_vs_art", rates[0] / rates[1], f"images a processor second: {rates[0]:.3g}, art {rates[1]:.3g}"
    )


def main() -> int:
    """Run and report; 1 where ours is weaker by more than two standard errors."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=0, metavar="N", help="default: 200, with --quick 40")
    asked = arguments.parse_args()
    report = Report()
    images = asked.images or (40 if asked.quick else 200)
    with tempfile.TemporaryDirectory() as folder:
        found, told = subject(Path(folder), images)
        print(told)
        report.details["subject"] = told
        if importlib.util.find_spec("art") is None:
            report.leave_out("*_vs_art", "pip install adversarial-robustness-toolbox")
            return 0
        square(report, found, 100 if asked.quick else 300)
        hopskipjump(report, found, 4 if asked.quick else 8)
    report.write(asked.json)
    margin = 200 * np.sqrt(0.5 / images)  # points: two standard errors of a difference of shares near one half
    return int(max(report.figures["square_gap_points"], report.figures["hopskipjump_gap_points"]) > margin)


if __name__ == "__main__":
    sys.exit(main())
