"""Certificates: soundness, speed, and how many images are decided.

Soundness: random networks of all layers, formats and modes, random boxes, random inputs inside: every layer's value
lies within its bounds. Speed: interval certificates of MNIST images against bitsim's predict, in processor time of one
thread. Decided: 784-64-10 with 6 bits and 784-64-32-10 with 4 bits, trained plainly, 100 MNIST test images; and the
images of the demo's run, where also no image may be both certified and broken by an attack of the run. Proved: the same
of configs/digits_certified.yaml, the demo's network trained to be certified. Activations: the demo's
network trained by feedback learning alone, with other bits of its activations, rounded anew, what bounds prove of its
images and what it costs. Trained: a finished run of configs/mnist_certified.yaml, all test images proved by bounds, and
its worst case.

    python benchmarks/certify.py --data-dir DIR [--run DEMO] [--proved RUN] [--feedback RUN] [--trained RUN]
        [--quick] [--only soundness speed one two digits proved activations trained] [--json OUT]

With --resume the figures that are in OUT already are kept, and OUT is written after each of them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.bitsim import mnist_cnn  # noqa: E402
from benchmarks.common import Report, parser  # noqa: E402
from hw.accelerator import Accelerator  # noqa: E402
from hw.certify import Certificate, Certifier, Effort  # noqa: E402
from hw.certify.bounds import propagate  # noqa: E402
from hw.certify.interval import Interval  # noqa: E402
from hw.experiment.certificates import Bracket, asked_later  # noqa: E402
from hw.experiment.contestants import accelerator_of  # noqa: E402
from hw.experiment.evaluation_config import CertificatePlan  # noqa: E402
from hw.experiment.open import open_run  # noqa: E402
from hw.experiment.run import Run  # noqa: E402
from hw.experiment.scoring import finished_rows  # noqa: E402
from hw.simulate.bitsim import BitSim  # noqa: E402
from hw.simulate.bitsim.lower import lower  # noqa: E402
from hw.simulate.bitsim.program import Network  # noqa: E402
from qmodels.attacks.ball import Ball  # noqa: E402
from qmodels.data import Dataset, load_data  # noqa: E402
from qmodels.errors import Contradiction, RobustHlsError  # noqa: E402
from qmodels.grid import IMAGE_GRID  # noqa: E402
from qmodels.quantize.selection import quantize_as_asked  # noqa: E402
from qmodels.runtime import runtime, set_seed  # noqa: E402
from qmodels.victims import accuracy  # noqa: E402
from tests.helpers.random_networks import random_model  # noqa: E402

PARTS = ("soundness", "speed", "one", "two", "digits", "proved", "activations", "trained")
PROVED = "robust-hls run configs/digits_certified.yaml"
FEEDBACK = (
    "robust-hls run --set training.method=feedback --set training.quantization_aware=null "
    "--out hls_projects/digits_feedback"
)
ACTIVATION_BITS = (4, 6, 8, 10)
HARD = (1, 2)  # radii of the demo that branch and bound is tried on
TRAINED = {76: "mnist_certified", 26: "mnist_certified_eps26"}  # ε -> key; the first is what it was trained for
BRANCHES, BOXES, INSIDE = 10, 8, 250


def soundness(report: Report, quick: bool) -> None:
    """Values checked against their bounds; how many lie outside."""
    checks = violations = 0
    for number in range(4 if quick else 100):
        seeds = [900_000 + 10 * number + n for n in range(BRANCHES)]
        with tempfile.TemporaryDirectory() as folder:
            network = lower(random_model(seeds, Path(folder), stream=number % 2 == 1).graph)
        done, wrong = _check(network, np.random.default_rng(number))
        checks, violations = checks + done, violations + wrong
    report.figure("soundness_checks", checks, "values of layers, of inputs inside boxes")
    report.figure("violations", violations)


def _check(network: Network, rng: np.random.Generator) -> tuple[int, int]:
    boxes, inputs = [], []
    for value in network.inputs:
        low, high = value.format.raw_min, value.format.raw_max
        centre = rng.integers(low, high + 1, (BOXES, value.size))
        reach = rng.integers(0, rng.choice([0, 1, 4, (high - low) // 2], (BOXES, 1)) + 1, centre.shape)
        box = Interval(np.maximum(centre - reach, low), np.minimum(centre + reach, high))
        inside = rng.integers(box.low[:, None], box.high[:, None] + 1, (BOXES, INSIDE, value.size))
        corner = np.where(rng.random(inside.shape) < 0.5, box.low[:, None], box.high[:, None])
        points = np.where(rng.random((BOXES, INSIDE, 1)) < 0.5, corner, inside)
        boxes.append(box)
        inputs.append((points * 2.0**-value.format.fraction).reshape(-1, *value.shape))
    bounds = propagate(network, boxes)
    trace = BitSim(network).trace(inputs, threads=1)
    checks = violations = 0
    for name, value in network.traced.items():
        found = np.ldexp(trace[name], value.format.fraction).reshape(BOXES, INSIDE, -1)
        low, high = (end.astype(np.float64)[:, None] for end in bounds[value.index])
        checks += found.size
        violations += int(((found < low) | (found > high)).sum())
    return checks, violations


def speed(report: Report, data: Dataset, quick: bool) -> None:
    """Interval certificates against predict, in processor time: other work on the machine does not count."""
    simulator = Accelerator(mnist_cnn()).bitsim
    x = data.test.x
    y = simulator.predict(x, 1, fraction=8).argmax(axis=1)
    doubled = Certifier(simulator).doubled(Ball(IMAGE_GRID, x, "linf", 2.0))
    if doubled is None:
        raise AssertionError("the network has no doubled form")
    predict, certify = [], []
    for _ in range(5 if quick else 25):
        predict.append(_seconds(lambda: simulator.predict(x, 1, fraction=8)))
        certify.append(_seconds(lambda: doubled.certified(x, y, 1)))
    ratio = float(np.median([a / b for a, b in zip(predict, certify, strict=True)]))
    report.figure("interval_vs_predict", ratio, f"{len(x)} images, one thread")


def _seconds(call: Any) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def perceptron(hidden: tuple[int, ...], bits: int, integer: int, data: Dataset) -> Any:
    """784 - hidden - 10, weights and activations of so many bits, trained plainly for eight epochs."""
    keras, qkeras = runtime().keras, runtime().qkeras
    set_seed(0)
    image = keras.Input((28, 28, 1), name="image")
    x = qkeras.QActivation(qkeras.quantized_bits(9, 0, alpha=1), name="grid")(image)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate((*hidden, 10)):
        quantizers = {f"{part}_quantizer": qkeras.quantized_bits(bits, 0, alpha=1) for part in ("kernel", "bias")}
        last = number == len(hidden)
        x = qkeras.QDense(units, name="logits" if last else f"fc{number}", **quantizers)(x)
        if not last:
            x = qkeras.QActivation(qkeras.quantized_relu(bits, integer), name=f"relu{number}")(x)
    model = keras.Model(image, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    for rate, epochs in ((2e-3, 6), (3e-4, 2)):
        model.optimizer.learning_rate = rate
        model.fit(data.train.values, data.train.y, batch_size=128, epochs=epochs, verbose=0)
    return model


def decided(
    report: Report, data: Dataset, model: Any, radii: dict[int, str], timeout: float, images: int = 100
) -> Iterator[None]:
    """How many of the first images are decided, by radius; yields after each."""
    simulator = Accelerator(model).bitsim
    simulator.threads = 1  # small products: threads would only wait for each other
    x, y = data.test.x[:images], np.asarray(data.test.y[:images])
    certifier = Certifier(simulator)
    for epsilon, key in radii.items():
        ball = Ball(IMAGE_GRID, x, "linf", float(epsilon))
        found = certifier.certify(ball, y, Effort(complete=True, timeout=timeout))
        report.figure(key, int(found.decided.sum()), f"of {images} images, {timeout:g} s an image at most; {found}")
        report.details[key] = _verdicts(found)
        yield


def digits(report: Report, folder: Path, name: str, quick: bool, timeout: float) -> Iterator[None]:
    """The share of a finished run's images that is decided, by radius; and contradictions with its attacks."""
    run, images = open_run(folder, resume=True), 60 if quick else None
    for epsilon in (1,) if quick else (1, 2, 4, 8, 16):
        key = f"{name}_decided_eps{epsilon}"
        if key in report.figures:
            continue
        plan = CertificatePlan(epsilons_lsb=(epsilon,), samples=images, complete=epsilon in HARD, timeout=timeout)
        if (bracket := _bracket(report, run, plan, key)) is not None:
            report.figure(key, 1 - bracket.unknown, f"{bracket}; {'complete' if bracket.complete else 'relaxed'}")
        yield


def activations(report: Report, folder: Path, images: int | None) -> Iterator[None]:
    """What bounds prove of a run's mapped network at one and two steps, by the bits of its activations."""
    run = open_run(folder, resume=True)
    x, y = (part[:images] for part in (run.data.test.x, np.asarray(run.data.test.y)))
    for bits in ACTIVATION_BITS:
        config = run.config.quantization.model_copy(update={"activation_bits": bits})
        parts = (run.data.train, run.data.validation)
        rounded, _ = quantize_as_asked(run.mapped_model, config, *parts, seed=run.config.seed)
        accelerator = Accelerator(rounded.model, run.config.hardware)
        clean, luts = accuracy(accelerator.bitsim, x, y), int(accelerator.cost.total("luts_estimated"))
        for epsilon in HARD:
            found = accelerator.certify(x, y, epsilon=epsilon)
            note = f"{found}; {clean:.1%} clean, {luts:,} LUTs estimated"
            key = f"digits_activations{bits}_eps{epsilon}"
            report.figure(key, found.accuracy, note)
            shares = {"clean": clean, "certified": found.accuracy, "broken": float(found.broken.mean())}
            report.details[key] = _verdicts(found) | shares | {"luts": luts}
            yield


def _bracket(report: Report, run: Run, plan: CertificatePlan, key: str) -> Bracket | None:
    """One radius; None, and counted, if an image is certified and an attack of the run has broken it."""
    contradictions = report.figures.get("contradictions", 0)
    try:
        (bracket,) = asked_later(run, plan, lambda: finished_rows(run))
        report.details[key] = bracket.as_json()
    except Contradiction as found:
        bracket, contradictions = None, contradictions + 1
        report.details[key] = str(found)
    report.figure("contradictions", contradictions, "radii with an image certified and broken")
    return bracket


def trained(report: Report, folder: Path, data_dir: Path, images: int | None) -> Iterator[None]:
    """What is proved of a run's accelerator on the test images, its accuracy there, and its worst case."""
    run = open_run(folder, resume=True, data_dir=data_dir)
    test = run.data.test.take(images or len(run.data.test.y))
    clean = accuracy(accelerator_of(run).victim, test.x, np.asarray(test.y))
    report.figure("mnist_certified_clean", clean, f"{len(test.y)} test images, {run.config.name}")
    for epsilon, key in TRAINED.items():
        if key in report.figures:
            continue
        plan = CertificatePlan(epsilons_lsb=(epsilon,), samples=len(test.y))
        if (bracket := _bracket(report, run, plan, key)) is not None:
            report.figure(key, bracket.accuracy, str(bracket))
        yield
    if not (folder / "results.json").exists():
        report.leave_out("mnist_worst_case", f"the attacks of {folder.name} are not finished")
        return
    worst = [
        case
        for case in json.loads((folder / "results.json").read_text())["worst_case"]
        if case["victim"] == accelerator_of(run).victim.name and case["epsilon_lsb"] == next(iter(TRAINED))
    ]
    for case in worst:
        report.figure("mnist_worst_case", case["accuracy"], f"{case['n']} test images, lowest row {case['lowest_row']}")
    yield


def _mnist(report: Report, folder: Path | None) -> Dataset | None:
    try:
        return load_data("mnist", data_dir=folder)
    except RobustHlsError as error:
        report.leave_out("interval_vs_predict, decided_*", str(error))
        return None


def _verdicts(found: Certificate) -> dict[str, Any]:
    counts: NDArray[np.str_] = np.char.add(np.char.add(found.verdicts, " by "), found.methods)
    names, numbers = np.unique(counts, return_counts=True)
    return {
        "verdicts": dict(zip(names.tolist(), numbers.tolist(), strict=True)),
        "median_seconds": float(np.median(found.seconds)),
        "most_seconds": float(found.seconds.max()),
    }


def main() -> int:
    """Exit status 0 when nothing contradicts a bound and the speed is reached."""
    arguments = parser(__doc__, PARTS)
    arguments.add_argument("--data-dir", type=Path, default=os.environ.get("ROBUST_HLS_DATA"), help="with mnist.npz")
    arguments.add_argument("--run", type=Path, default=ROOT / "hls_projects" / "digits", help="the demo's run")
    arguments.add_argument(
        "--proved",
        type=Path,
        default=ROOT / "hls_projects" / "digits_certified",
        help="of configs/digits_certified.yaml",
    )
    arguments.add_argument(
        "--feedback",
        type=Path,
        default=ROOT / "hls_projects" / "digits_feedback",
        help="the demo's network, trained by feedback learning alone",
    )
    arguments.add_argument("--trained", type=Path, default=ROOT / "hls_projects" / "mnist_certified", help="that run")
    arguments.add_argument("--timeout", type=float, help="processor seconds an image; default 20, with --quick 2")
    arguments.add_argument("--resume", action="store_true", help="keep the figures that OUT has")
    options = arguments.parse_args()
    report, quick = Report.resumed(options.json if options.resume else None), options.quick
    for _ in _parts(report, options, quick, options.timeout or (2.0 if quick else 20.0)):
        report.write(options.json)
    report.write(options.json)
    figures = report.figures
    fine = not figures.get("violations") and not figures.get("contradictions")
    return 0 if fine and figures.get("interval_vs_predict", 1.0) >= 0.25 else 1


def _parts(report: Report, options: Any, quick: bool, timeout: float) -> Iterator[None]:
    """The parts that were asked for; yields whenever there is something to keep."""
    only, done = set(options.only), report.figures
    if "soundness" in only and "violations" not in done:
        soundness(report, quick)
        yield
    data = _mnist(report, options.data_dir) if only & {"speed", "one", "two"} else None
    if data is not None and "speed" in only and "interval_vs_predict" not in done:
        speed(report, data, quick)
        yield
    one = {epsilon: f"decided_eps{epsilon}" for epsilon in ((1, 2, 3, 4, 6, 8) if not quick else (1, 2))}
    two = {epsilon: f"decided_two_layers_eps{epsilon}" for epsilon in ((1, 2, 3, 4) if not quick else (1,))}
    for part, hidden, bits, keys in (("one", (64,), 6, one), ("two", (64, 32), 4, two)):
        left = {epsilon: key for epsilon, key in keys.items() if key not in done}
        if data is not None and part in only and left:
            yield from decided(report, data, perceptron(hidden, bits, 2, data), left, timeout)
    yield from _of_digits(report, options, quick, timeout)
    if "trained" in only and "mnist_worst_case" not in done:
        if (options.trained / "project.json").exists() and options.data_dir is not None:
            yield from trained(report, options.trained, Path(options.data_dir), 1000 if quick else None)
        else:
            report.leave_out("mnist_certified", f"no run of configs/mnist_certified.yaml at {options.trained}")


def _of_digits(report: Report, options: Any, quick: bool, timeout: float) -> Iterator[None]:
    """The parts that need runs of the digits: the demo's, and those of the same network trained in other ways."""
    only, short = set(options.only), min(timeout, 5.0)
    if "digits" in only and _finished(report, "digits_cnn_*", options.run, "make demo"):
        yield from digits(report, options.run, "digits_cnn", quick, short)
    if "proved" in only and _finished(report, "digits_certified_*", options.proved, PROVED):
        yield from digits(report, options.proved, "digits_certified", quick, short)
    left = f"digits_activations{ACTIVATION_BITS[-1]}_eps{HARD[-1]}" not in report.figures
    if "activations" in only and left and _finished(report, "digits_activations*", options.feedback, FEEDBACK):
        yield from activations(report, options.feedback, 60 if quick else None)


def _finished(report: Report, keys: str, folder: Path, command: str) -> bool:
    """Whether there is a run to ask; else its figures are left out."""
    if (folder / "results.json").exists():
        return True
    report.leave_out(keys, f"no finished run at {folder}; {command} makes one")
    return False


if __name__ == "__main__":
    sys.exit(main())
