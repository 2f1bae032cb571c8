"""Our attacks against the Adversarial Robustness Toolbox and Foolbox: same model, images, radius, steps.

Needs `pip install adversarial-robustness-toolbox foolbox`; without one of them its figures are left out. MNIST is taken
from $ROBUST_HLS_DATA or Keras' cache; without it the built-in digits, enlarged, stand in. All attack the same folded
model (the prequantized view of the QKeras model: the same bits, faster), each library in the batches that are fastest
for it, after a warm-up, in turn. HopSkipJump and Square ask the accelerator: ours through bitsim, ART through bitsim
(the attack alone is compared) and through hls4ml's C simulation (what a user had before).

`NAME_vs_art` and `NAME_vs_foolbox` are ratios of rates. `NAME_share_of_peak` is what ours reaches of the machine in
int16, where its products are made, and `NAME_share_of_float_peak` the same of float32, which it may exceed.
`NAME_accuracy_gap_points` is our robust accuracy minus ART's, `NAME_foolbox_accuracy_gap_points` minus Foolbox's, where
the library itself leaves about half of the images standing: at the median length of its own examples, or at the radius
of a list that comes nearest to that. Negative is stronger.
A gap is told from 200 images on; fewer say nothing.

    python benchmarks/attacks.py [--quick] [--json OUT [--resume]] [--only NAME ...]
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import attack_peers as peers  # noqa: E402
from benchmarks.attack_subjects import Subject, accelerators, resnet8, tabular_subject, trained  # noqa: E402
from benchmarks.bitsim import peak_gmacs  # noqa: E402
from benchmarks.common import Report, parser  # noqa: E402
from hw.simulate.bitsim.kernels.library import isa_name  # noqa: E402
from hw.simulate.gradients import gradients_of  # noqa: E402
from qmodels.attacks import CWL2, PGD, DeepFool, HopSkipJump, Square, WorstCase  # noqa: E402
from qmodels.attacks.worst_case import NOT_FALLEN  # noqa: E402
from qmodels.errors import ToolMissing  # noqa: E402
from qmodels.grid import Codes  # noqa: E402
from qmodels.processors import processors  # noqa: E402
from qmodels.victims import KerasVictim, Victim, predictions  # noqa: E402

STEPS = 40
MODULES = {"art": "art", "foolbox": "foolbox"}
PACKAGES = {"art": "adversarial-robustness-toolbox", "foolbox": "foolbox"}
RADII_MNIST, RADII_RANDOM = (8, 12, 19, 25, 38, 51), (1, 2, 4, 8)  # LSBs
TABULAR_RADII = (16, 32, 64, 128)  # steps of 1/128 of a standard deviation
WORST_CASE_EPSILON = 25
GAP_IMAGES = 200  # fewer images say nothing about a gap
CW_STEPS = 100  # iterations of CW-L2
WARM_UP = 10  # images, for attacks that take minutes


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds (medians over rounds, run in turn) and last results; each is warmed up once."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            spent, results[name] = timed(call)
            seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}, results


def l2_lsb(x: Codes, clean: Codes) -> NDArray[np.float64]:
    """Euclidean length of every change on the device's grid, in LSBs."""
    change = x.astype(np.float64) - clean
    return np.asarray(np.linalg.norm(change.reshape(len(x), -1), axis=1))


def robust_accuracy(victim: Victim, x: Codes, subject: Subject, radius_l2: float | None = None) -> float:
    """Share of images still right; with a radius, examples farther away do not count."""
    right = predictions(victim, x) == subject.y
    if radius_l2 is not None:
        right |= l2_lsb(x, subject.x) > radius_l2
    return float(right.mean())


def median_radius(victim: Victim, x: Codes, subject: Subject) -> float:
    """The median length of the library's examples that work: there it breaks half of what it can break."""
    wrong = predictions(victim, x) != subject.y
    return float(np.median(l2_lsb(x, subject.x)[wrong])) if wrong.any() else np.inf


def telling_radius(radii: Iterable[int], accuracy: Callable[[int], float]) -> int:
    """The radius at which the library's robust accuracy is nearest to one half: neither all nor nothing."""
    return min(radii, key=lambda radius: abs(accuracy(radius) - 0.5))


def record(
    report: Report, name: str, library: str, n: tuple[int, int], seconds: tuple[float, float],
    accuracy: tuple[float, float], where: str,
) -> None:  # fmt: skip
    """The ratio of rates and the gap in robust accuracy; pairs are ours, the library's."""
    rates = n[0] / seconds[0], n[1] / seconds[1]
    report.figure(f"{name}_vs_{library}", rates[0] / rates[1], f"ours {rates[0]:.3g}/s, {library} {rates[1]:.3g}/s")
    record_gap(report, name, library, n[1], accuracy, where)


def gap_key(name: str, library: str) -> str:
    """The key of a gap."""
    return f"{name}_accuracy_gap_points" if library == "art" else f"{name}_{library}_accuracy_gap_points"


def record_gap(report: Report, name: str, library: str, n: int, accuracy: tuple[float, float], where: str) -> None:
    """Our robust accuracy minus the library's on the same n images, in points."""
    key = gap_key(name, library)
    if n < GAP_IMAGES:
        report.leave_out(key, f"{n} images; a gap is reported from {GAP_IMAGES} on")
        return
    if accuracy[1] >= 1.0:
        report.leave_out(key, f"{library} broke nothing, {where}: equal strength would say nothing")
        return
    note = f"robust accuracy ours {accuracy[0]:.3f}, {library} {accuracy[1]:.3f}, {n} images, {where}"
    report.figure(key, 100 * (accuracy[0] - accuracy[1]), note)


# -- gradient attacks


def pgd(report: Report, name: str, subject: Subject, radii: Iterable[int], libraries: list[str], rounds: int) -> None:
    """PGD-40 with one random start and steps of 2.5 epsilon / 40."""
    victim, few = KerasVictim(subject.folded, "quantized", engine=gradients_of), subject.first(100)

    def left_standing(radius: int) -> float:
        return robust_accuracy(victim, peers.pgd(libraries[0], few, radius, STEPS)(few.x, few.y), few)

    epsilon = telling_radius(radii, left_standing)
    attack = PGD(steps=STEPS)
    looks: list[int] = []

    def ours() -> Codes:
        found = attack(victim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0)
        looks.append(found.queries)
        return found.x

    calls: dict[str, Callable[[], Codes]] = {"ours": ours}
    for library in libraries:
        batch = peers.fastest(lambda size, lib=library: peers.pgd(lib, subject, epsilon, 4, size), subject)  # type: ignore[misc]
        report.details[f"{name}_{library}_batch"] = batch
        peer = peers.pgd(library, subject, epsilon, STEPS, batch)
        calls[library] = lambda peer=peer: peer(subject.x, subject.y)  # type: ignore[misc]
    seconds, found = in_turn(calls, rounds)
    accuracy = {who: robust_accuracy(victim, x, subject) for who, x in found.items()}
    rate = 2 * products(subject.folded) * looks[-1] / seconds["ours"] / 1e9
    for key, peak, what in (
        ("share_of_peak", peak_gmacs(0, processors()), f"of int16 ({isa_name()})"),
        ("share_of_float_peak", float_peak() / 2e9, "of a large matrix product in float32"),
    ):
        note = f"forward and backward pass of a look: {rate:.0f} of {peak:.0f} G multiply-adds/s {what}"
        report.figure(f"{name}_{key}", rate / peak, note)
    n = (len(subject.y),) * 2
    for library in libraries:
        pair = accuracy["ours"], accuracy[library]
        record(report, name, library, n, (seconds["ours"], seconds[library]), pair, f"epsilon {epsilon} LSB")


def products(model: Any) -> int:
    """Multiplications of one forward pass: as many again are needed for the gradient of the input."""
    count = 0
    for layer in model.layers:
        if weights := layer.get_weights():
            places = layer.output_shape[1:-1] if weights[0].ndim > 2 else ()
            count += weights[0].size * int(np.prod(places, dtype=int))
    return count


def float_peak() -> float:
    """Operations a second in float32 of NumPy's matrix product, on all processors."""
    a = np.random.default_rng(0).random((3000, 3000), np.float32)
    return float(2 * 3000**3 / min(timed(lambda: a @ a)[0] for _ in range(4)))


# -- minimal-norm attacks


def carlini(report: Report, subject: Subject, steps: int, libraries: list[str]) -> None:
    """CW-L2 with equal iterations and settings; the libraries' own need thousands of iterations to find anything."""
    attack = CWL2(steps=steps, binary_steps=3, rate=peers.CW_RATE, initial_weight=peers.CW_WEIGHT)
    found: dict[str, peers.Peer] = {}
    for library in libraries:
        batch = peers.fastest(lambda size, lib=library: peers.carlini(lib, subject, 3, size), subject)  # type: ignore[misc]
        report.details[f"cwl2_{library}_batch"] = batch
        found[library] = peers.carlini(library, subject, steps, batch)
    minimal(report, "cwl2", subject, attack, found, len(subject.y))
    if steps < CW_STEPS:  # each iteration of ART is a line search: of a few, its are worth more
        for library in libraries:
            why = f"{steps} iterations; a gap is reported from {CW_STEPS} on"
            report.leave_out(gap_key("cwl2", library), why)


def deepfool(report: Report, subject: Subject, few: int, libraries: list[str]) -> None:
    """DeepFool, 100 steps, overshoot 0.008, all ten classes."""
    attack = DeepFool(steps=100, overshoot=0.008)
    minimal(report, "deepfool", subject, attack, {lib: peers.deepfool(lib, subject) for lib in libraries}, few)


def minimal(report: Report, name: str, subject: Subject, attack: Any, found: dict[str, peers.Peer], few: int) -> None:
    """Rates: ours on all images, a library on the first `few`; strength within the library's own median length."""
    victim, small = KerasVictim(subject.folded, "quantized"), subject.first(few)
    parts = {"ours": subject, **dict.fromkeys(found, small)}
    seconds: dict[str, float] = {}
    results: dict[str, Codes] = {}
    for who, run in {"ours": lambda x, y: attack(victim, x, y, epsilon_lsb=np.inf, seed=0).x, **found}.items():
        part = parts[who]
        run(part.x[:WARM_UP], part.y[:WARM_UP])
        seconds[who], results[who] = timed(lambda run=run, part=part: run(part.x, part.y))  # type: ignore[misc]
    ours = results["ours"][:few]
    for library in found:
        theirs = results[library]
        radius = median_radius(victim, theirs, small)
        accuracy = (robust_accuracy(victim, ours, small, radius), robust_accuracy(victim, theirs, small, radius))
        n, pair = (len(subject.y), few), (seconds["ours"], seconds[library])
        record(report, name, library, n, pair, accuracy, f"L2 {radius:.0f} LSB")
        lengths = {who: float(np.median(l2_lsb(x, small.x))) for who, x in (("ours", ours), (library, theirs))}
        report.details[f"{name}_vs_{library}_median_l2_lsb"] = lengths


# -- black-box attacks on the accelerator


def hopskipjump(
    report: Report,
    subject: Subject,
    bitsim: Victim,
    csim: Victim,
    n: tuple[int, int],
    rounds: int,
    libraries: list[str],
) -> None:
    """HopSkipJump with the queries that the library used per image.

    Args:
        report: takes the figures.
        subject: what is attacked.
        bitsim: asked by ours and by the libraries.
        csim: asked by ART too.
        n: images that the libraries get on bitsim, on csim.
        rounds: of the attack.
        libraries: which are installed.
    """
    small = subject.first(n[0])
    for library in libraries:
        attack = peers.hopskipjump(library, subject, rounds)
        asked = peers.Counted(bitsim)
        theirs_seconds, theirs = timed(lambda attack=attack, asked=asked: attack(asked)(small.x, small.y))
        budget = int(asked.queries / len(small.y))
        radius = median_radius(bitsim, theirs, small)
        mine = HopSkipJump(queries=budget)
        seconds, ours = timed(lambda mine=mine: mine(bitsim, subject.x, subject.y, epsilon_lsb=np.inf, seed=0))
        found = ours.x[: len(small.y)]
        pair = (robust_accuracy(bitsim, found, small, radius), robust_accuracy(bitsim, theirs, small, radius))
        report.details[f"hopskipjump_{library}_queries_per_image"] = budget
        where = f"L2 {radius:.0f} LSB, {budget} queries"
        on_bitsim = (len(subject.y), len(small.y)), (seconds, theirs_seconds)
        record_rate(report, f"hopskipjump_accel_vs_{library}_bitsim", *on_bitsim)
        record_gap(report, "hopskipjump_accel", library, len(small.y), pair, where)
        if library == "art":
            few = subject.first(n[1])
            spent, _ = timed(lambda attack=attack, few=few: attack(peers.Counted(csim))(few.x, few.y))
            record_rate(report, "hopskipjump_accel_vs_art_csim", (len(subject.y), n[1]), (seconds, spent))


def square(report: Report, subject: Subject, bitsim: Victim, csim: Victim, n: tuple[int, int], budget: int) -> None:
    """Square in the L-infinity ball; ART stops asking about an image that has fallen, and so do we.

    Args:
        report: takes the figures.
        subject: what is attacked.
        bitsim: asked by ours and by ART.
        csim: asked by ART too.
        n: images that ART gets on bitsim, on csim.
        budget: queries an image.
    """
    small, few = subject.first(n[0]), subject.first(n[1])
    found: dict[int, tuple[float, Codes]] = {}

    def left_standing(radius: int) -> float:
        attack = peers.square(small, radius, budget)(peers.Counted(bitsim))
        found[radius] = timed(lambda: attack(small.x, small.y))
        return robust_accuracy(bitsim, found[radius][1], small)

    epsilon = telling_radius(RADII_MNIST, left_standing)
    asked = peers.Counted(csim)
    spent, _ = timed(lambda: peers.square(few, epsilon, budget)(asked)(few.x, few.y))
    mine = Square(queries=budget)
    mine(bitsim, few.x, few.y, epsilon_lsb=epsilon, seed=0)  # a warm-up, as ART has had
    seconds, ours = timed(lambda: mine(bitsim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0))
    report.details["square_queries_per_image"] = {"ours": ours.queries / len(subject.y), "art": asked.queries / n[1]}
    theirs_seconds, theirs = found[epsilon]
    pair = robust_accuracy(bitsim, ours.x[: len(small.y)], small), robust_accuracy(bitsim, theirs, small)
    record_rate(report, "square_accel_vs_art_bitsim", (len(subject.y), len(small.y)), (seconds, theirs_seconds))
    record_gap(report, "square_accel", "art", len(small.y), pair, f"epsilon {epsilon} LSB, {budget} queries")
    record_rate(report, "square_accel_vs_art_csim", (len(subject.y), n[1]), (seconds, spent))


def record_rate(report: Report, key: str, n: tuple[int, int], seconds: tuple[float, float]) -> None:
    """The ratio of rates; pairs are ours, the library's."""
    rates = n[0] / seconds[0], n[1] / seconds[1]
    report.figure(key, rates[0] / rates[1], f"ours {rates[0]:.3g}/s, theirs {rates[1]:.3g}/s")


def worst_case(report: Report, subject: Subject, epsilon: int) -> None:
    """The standard worst case on a 3-bit accelerator (bitsim), per image and for 1,000 images."""
    from hw.accelerator import Accelerator
    from hw.generate.hardware import HardwareConfig

    victim = Accelerator(subject.model, HardwareConfig())
    seconds, found = timed(lambda: WorstCase().evaluate(victim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0))
    standing = float(np.mean(found.fell_to == NOT_FALLEN))
    note = f"epsilon {epsilon} LSB, {len(subject.y)} images, {standing:.1%} standing, {seconds:.0f} s"
    report.figure("worst_case_minutes_per_1000", seconds / 60 * 1000 / len(subject.y), note)
    report.details["worst_case_fell_to"] = np.bincount(found.fell_to + 2).tolist()


def on_models(report: Report, only: list[str], quick: bool, libraries: list[str]) -> None:
    """Attacks with gradients on the folded model."""
    cnn, rounds = trained("cnn4", 500 if quick else 1000), 2 if quick else 3
    if "pgd" in only:  # a thousand images: with fewer a gap of a point is chance
        pgd(report, "pgd40_mlp", trained("mlp", 500 if quick else 1000), RADII_MNIST, libraries, rounds)
        pgd(report, "pgd40_cnn", cnn, RADII_MNIST, libraries, rounds)
        pgd(report, "pgd40_resnet8", resnet8(100 if quick else 500), RADII_RANDOM, libraries, rounds)
    part = cnn.first(200)
    if "deepfool" in only:
        deepfool(report, part, 20 if quick else 200, libraries)
    if "cw" in only:
        carlini(report, part, 10 if quick else CW_STEPS, libraries)


def tabular(report: Report, quick: bool) -> None:
    """Robust accuracy over ε on signed tabular inputs: PGD-40 on the grid, one radius a feature, against ART's PGD."""
    subject = tabular_subject(100 if quick else 500)
    victim = KerasVictim(subject.folded, "quantized", subject.grid, engine=gradients_of)
    attack, gaps = PGD(steps=STEPS), []
    for radius in TABULAR_RADII:
        ours = attack(victim, subject.x, subject.y, epsilon_lsb=radius, seed=0)
        theirs = peers.pgd("art", subject, radius, STEPS)(subject.x, subject.y)
        pair = ours.accuracy, float(np.mean(predictions(victim, theirs) == subject.y))
        gaps.append(100 * (pair[0] - pair[1]))
        print(f"{'tabular, epsilon ' + str(radius):28s} ours {pair[0]:.3f}, art {pair[1]:.3f}")
    note = f"largest over epsilon {TABULAR_RADII} steps, {len(subject.y)} inputs"
    report.figure("tabular_pgd40_art_gap_points", max(gaps), note)


def on_accelerators(report: Report, quick: bool, libraries: list[str]) -> None:
    """Attacks that ask the accelerator; a small CNN, so that its C simulation compiles in reasonable time."""
    small = trained("cnn4", 100 if quick else 500, filters=(8, 16), hidden=(32,))
    try:
        bitsim, csim = accelerators(small.model)
    except ToolMissing as error:
        report.leave_out("*_accel_vs_art_csim", str(error))
        return
    n = (20, 2) if quick else (GAP_IMAGES, 5)
    if "art" in libraries:
        square(report, small, bitsim, csim, n, 200)
    hopskipjump(report, small, bitsim, csim, n, 4, libraries)


def main() -> None:
    """Measure everything, or what `--only` names."""
    arguments = parser(__doc__, ("pgd", "deepfool", "cw", "tabular", "accelerator", "worst"))
    arguments.add_argument("--resume", action="store_true", help="keep the figures of other parts that OUT has")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    report = Report.resumed(options.json if options.resume else None)
    libraries = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
    for name in MODULES.keys() - libraries:
        report.leave_out(f"*_vs_{name}*", f"not installed: pip install {PACKAGES[name]}")
    if libraries and {"pgd", "deepfool", "cw"} & set(options.only):
        on_models(report, options.only, options.quick, libraries)
    if "art" in libraries and "tabular" in options.only:
        tabular(report, options.quick)
    if libraries and "accelerator" in options.only:
        on_accelerators(report, options.quick, libraries)
    if "worst" in options.only:
        worst_case(report, trained("cnn4", 100 if options.quick else 1000), WORST_CASE_EPSILON)
    return report.write(options.json)


if __name__ == "__main__":
    main()
