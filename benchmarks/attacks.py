"""Our attacks against the Adversarial Robustness Toolbox: same model, images, epsilon, steps; rates and strength.

Needs `pip install adversarial-robustness-toolbox`. MNIST is taken from $ROBUST_HLS_DATA or Keras' cache; without it
the built-in digits, enlarged, stand in. ART attacks the QKeras model in batches of 250; ours its folded view, which
gives the same bits. HopSkipJump and Square ask the accelerator: ART through hls4ml's C simulation, ours through bitsim.

    python benchmarks/attacks.py [--quick] [--json OUT] [--only NAME ...]
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report, parser  # noqa: E402
from qmodels.architectures import ModelConfig, build_float  # noqa: E402
from qmodels.attacks import CWL2, PGD, DeepFool, HopSkipJump, Square, WorstCase  # noqa: E402
from qmodels.attacks.base import LEVELS  # noqa: E402
from qmodels.attacks.worst_case import NOT_FALLEN  # noqa: E402
from qmodels.data import load_dataset  # noqa: E402
from qmodels.errors import RobustHlsError, ToolMissing  # noqa: E402
from qmodels.folded import fold  # noqa: E402
from qmodels.metrics.margins import change_lengths  # noqa: E402
from qmodels.quantize.model import QuantizationConfig, quantize_model  # noqa: E402
from qmodels.runtime import runtime, set_seed  # noqa: E402
from qmodels.victims import AcceleratorVictim, Images, KerasVictim, Labels, Victim, predictions  # noqa: E402

EPSILON_MNIST, EPSILON_CIFAR = 76, 8
RADIUS_L2 = 500.0  # LSBs; where the minimal-norm attacks' robust accuracy is compared
STEPS = 40
TOP = (LEVELS - 1) / LEVELS


@dataclass(frozen=True)
class Subject:
    """A quantized model, the images it gets right, their labels."""

    name: str
    model: Any
    x: Images
    y: Labels


# -- models


def trained(architecture: str, count: int, **sizes: Any) -> Subject:
    """mlp or cnn4 on MNIST, 3-bit weights, after a short training."""
    keras = runtime().keras
    train_x, train_y, test_x, test_y = digits_of_any_size()
    config = ModelConfig.model_validate({"architecture": architecture, **sizes})
    model = build_float(config, train_x.shape[1:], 10, seed=0)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train_x[:10000], train_y[:10000], epochs=2, batch_size=100, verbose=0)
    quantized = quantize_model(model, QuantizationConfig(weight_bits=3), train_x[:1000]).model
    return only_right(architecture, quantized, test_x, test_y, count)


def digits_of_any_size() -> tuple[Images, Labels, Images, Labels]:
    """MNIST, or the 8x8 digits enlarged to 28x28."""
    try:
        data = load_dataset("mnist", seed=0)
        return data.train.x, data.train.y, data.test.x, data.test.y
    except RobustHlsError:
        data = load_dataset("digits", seed=0)
        train, test = (
            np.pad(s.x.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2), (0, 0)))
            for s in (data.train, data.test)
        )
        return train, data.train.y, test, data.test.y


def resnet8(count: int) -> Subject:
    """ResNet-8 for 32x32x3 with 3-bit weights; random weights and images, its own answers as labels."""
    q, keras = runtime().qkeras, runtime().keras
    set_seed(0)

    def quantizers() -> dict[str, Any]:
        return {
            "kernel_quantizer": q.quantized_bits(3, 0, alpha=1),
            "bias_quantizer": q.quantized_bits(8, 2, alpha=1),
            "kernel_initializer": keras.initializers.RandomNormal(stddev=0.25, seed=int(rng.integers(10**6))),
        }

    def conv(x: Any, filters: int, size: int, stride: int) -> Any:
        return q.QConv2D(filters, size, strides=stride, padding="same", **quantizers())(x)

    def relu(x: Any) -> Any:
        return q.QActivation("quantized_relu(8,4)")(x)

    rng = np.random.default_rng(0)
    image = keras.Input((32, 32, 3))
    x = relu(conv(q.QActivation("quantized_bits(9,0,alpha=1)")(image), 16, 3, 1))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        branch = conv(relu(conv(x, filters, 3, stride)), filters, 3, 1)
        x = relu(keras.layers.Add()([conv(x, filters, 1, stride) if stride > 1 else x, branch]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(x))
    model = keras.Model(image, q.QDense(10, **quantizers())(x), name="resnet8")
    images = (rng.integers(0, LEVELS, (count, 32, 32, 3)) / LEVELS).astype(np.float32)
    return Subject("resnet8", model, images, model.predict(images, verbose=0).argmax(axis=1).astype(np.int64))


def only_right(name: str, model: Any, x: Images, y: Labels, count: int) -> Subject:
    """The first `count` images that the model gets right."""
    right = np.flatnonzero(model.predict(x[: 3 * count + 50], verbose=0).argmax(axis=1) == y[: 3 * count + 50])[:count]
    return Subject(name, model, x[right], y[right])


# -- measuring


def in_turn(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> tuple[float, float, Any, Any]:
    """Seconds of both (medians over rounds, run in turn) and the last results; ours is warmed up by one call."""
    ours()
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(rounds):
        for index, call in enumerate((ours, peer)):
            start = time.perf_counter()
            results[index] = call()
            seconds[index].append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1]), results[0], results[1]


def art_classifier(subject: Subject) -> Any:
    """ART's view of the QKeras model, logits and cross-entropy from logits."""
    from art.estimators.classification import TensorFlowV2Classifier

    loss = runtime().keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return TensorFlowV2Classifier(
        subject.model, nb_classes=10, input_shape=subject.x.shape[1:], loss_object=loss, clip_values=(0.0, TOP)
    )


def robust_accuracy(victim: Victim, x: Images, subject: Subject, radius_l2: float | None = None) -> float:
    """Share of images still right; with a radius, examples farther away do not count."""
    right = predictions(victim, x) == subject.y
    if radius_l2 is not None:
        right |= change_lengths(x, subject.x)["l2"] > radius_l2
    return float(right.mean())


def compare(
    report: Report, key: str, n: tuple[int, int], seconds: tuple[float, float], accuracy: tuple[float, float]
) -> None:
    """The ratio of rates and the gap in robust accuracy of ours and the peer's."""
    rates = n[0] / seconds[0], n[1] / seconds[1]
    note = f"ours {rates[0]:.3g}/s, peer {rates[1]:.3g}/s; accuracy ours {accuracy[0]:.3f}, peer {accuracy[1]:.3f}"
    report.figure(key, rates[0] / rates[1], note)
    report.figure(f"{key.split('_vs_')[0]}_accuracy_gap_points", 100 * (accuracy[0] - accuracy[1]))


def pgd(report: Report, key: str, subject: Subject, epsilon: int, rounds: int) -> None:
    """PGD-40 with one random start and steps of 2.5 epsilon / 40."""
    from art.attacks.evasion import ProjectedGradientDescent

    victim = KerasVictim(fold(subject.model), "quantized")
    attack = PGD(steps=STEPS)
    radius = epsilon / LEVELS
    peer = ProjectedGradientDescent(
        art_classifier(subject),
        eps=radius,
        eps_step=2.5 * radius / STEPS,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=250,
        verbose=False,
    )
    n = len(subject.y)
    ours_s, peer_s, ours, theirs = in_turn(
        lambda: attack(victim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0),
        lambda: peer.generate(subject.x, subject.y),
        rounds,
    )
    accuracy = ours.accuracy, robust_accuracy(victim, theirs.astype(np.float32), subject)
    compare(report, key, (n, n), (ours_s, peer_s), accuracy)


def carlini(report: Report, subject: Subject, few: int, steps: int) -> None:
    """CW-L2 with 3 binary steps, learning rate 5e-3 and first weight 0.01, equal iterations."""
    from art.attacks.evasion import CarliniL2Method

    victim = KerasVictim(fold(subject.model), "quantized")
    attack = CWL2(steps=steps, binary_steps=3, rate=5e-3, initial_weight=0.01)
    peer = CarliniL2Method(
        art_classifier(subject),
        max_iter=steps,
        binary_search_steps=3,
        learning_rate=5e-3,
        initial_const=0.01,
        batch_size=250,
        verbose=False,
    )
    minimal(report, "cwl2_vs_art", subject, victim, attack, peer, few)


def deepfool(report: Report, subject: Subject, few: int) -> None:
    """DeepFool, 100 steps, overshoot 0.008, all ten classes."""
    from art.attacks.evasion import DeepFool as ArtDeepFool

    victim = KerasVictim(fold(subject.model), "quantized")
    peer = ArtDeepFool(art_classifier(subject), max_iter=100, epsilon=0.008, nb_grads=10, batch_size=250, verbose=False)
    minimal(report, "deepfool_vs_art", subject, victim, DeepFool(steps=100, overshoot=0.008), peer, few)


def minimal(report: Report, key: str, subject: Subject, victim: Any, attack: Any, peer: Any, few: int) -> None:
    """Rates of a minimal-norm attack: ours on all images, the peer on the first `few`; accuracy within RADIUS_L2."""
    small = Subject(subject.name, subject.model, subject.x[:few], subject.y[:few])
    ours_s, peer_s, _, theirs = in_turn(
        lambda: attack(victim, subject.x, subject.y, epsilon_lsb=np.inf, seed=0), lambda: peer.generate(small.x), 1
    )
    ours = attack(victim, small.x, small.y, epsilon_lsb=np.inf, seed=0)
    accuracy = tuple(robust_accuracy(victim, x.astype(np.float32), small, RADIUS_L2) for x in (ours.x, theirs))
    compare(report, key, (len(subject.y), few), (ours_s, peer_s), (accuracy[0], accuracy[1]))
    lengths = [float(np.median(change_lengths(x.astype(np.float32), small.x)["l2"])) for x in (ours.x, theirs)]
    report.details[f"{key}_median_l2_lsb"] = lengths


class Counted:
    """A victim as ART's predict function, that counts the images it is shown."""

    def __init__(self, victim: Victim) -> None:
        self.victim, self.queries = victim, 0

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Logits."""
        self.queries += len(x)
        return self.victim.logits(np.asarray(x, np.float32))

    def classifier(self, subject: Subject) -> Any:
        """ART's wrapper."""
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork

        return BlackBoxClassifierNeuralNetwork(
            self, subject.x.shape[1:], 10, channels_first=False, clip_values=(0.0, TOP)
        )


def accelerators(model: Any) -> tuple[Victim, Victim]:
    """bitsim and hls4ml's C simulation of the same model."""
    from hw.accelerator import BitSimVictim
    from hw.csim import simulate
    from hw.project import HardwareConfig, generate

    config = HardwareConfig()
    return BitSimVictim(model, config), simulate(generate(model, config), 10, config)


def hopskipjump(report: Report, subject: Subject, bitsim: Victim, csim: Victim, few: int, rounds: int) -> None:
    """Same queries an image: what ART used is our budget. Strength is compared on bitsim, which gives csim's bits."""
    from art.attacks.evasion import HopSkipJump as ArtHopSkipJump

    settings = {"norm": 2, "max_iter": rounds, "max_eval": 200, "init_eval": 20, "init_size": 100, "verbose": False}
    counted = Counted(csim)
    seconds, _ = timed(lambda: ArtHopSkipJump(counted.classifier(subject), **settings).generate(subject.x[:few]))
    many = 10 * few
    budget = int(counted.queries / few)
    theirs = ArtHopSkipJump(Counted(bitsim).classifier(subject), **settings).generate(subject.x[:many])
    finish_black_box(
        report,
        "hopskipjump_accel_vs_art_csim",
        subject,
        bitsim,
        HopSkipJump(queries=budget),
        np.inf,
        (few, seconds),
        theirs.astype(np.float32),
        RADIUS_L2,
    )


def square(report: Report, subject: Subject, bitsim: Victim, csim: Victim, few: int, budget: int) -> None:
    """Square in the L-infinity ball, at a radius where images survive for a while."""
    from art.attacks.evasion import SquareAttack

    epsilon = 25
    settings = {"norm": np.inf, "eps": epsilon / LEVELS, "max_iter": budget, "p_init": 0.8, "nb_restarts": 1,
                "batch_size": 250, "verbose": False}  # fmt: skip
    counted = Counted(csim)
    hot = np.eye(10, dtype=np.float32)[subject.y]
    seconds, _ = timed(
        lambda: SquareAttack(counted.classifier(subject), **settings).generate(subject.x[:few], hot[:few])
    )
    report.details["square_art_queries_per_image"] = counted.queries / few
    many = 10 * few
    theirs = SquareAttack(Counted(bitsim).classifier(subject), **settings).generate(subject.x[:many], hot[:many])
    finish_black_box(
        report,
        "square_accel_vs_art_csim",
        subject,
        bitsim,
        Square(queries=budget),
        epsilon,
        (few, seconds),
        theirs.astype(np.float32),
        None,
    )


def finish_black_box(
    report: Report,
    key: str,
    subject: Subject,
    bitsim: Victim,
    attack: Any,
    epsilon: float,
    peer: tuple[int, float],
    theirs: Images,
    radius: float | None,
) -> None:
    """Time ours on all images; compare strength on the images that the peer attacked on bitsim."""
    many = len(theirs)
    seconds, ours = timed(lambda: attack(bitsim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0))
    small = Subject(subject.name, subject.model, subject.x[:many], subject.y[:many])
    accuracy = tuple(robust_accuracy(bitsim, x, small, radius) for x in (ours.x[:many], theirs))
    compare(report, key, (len(subject.y), peer[0]), (seconds, peer[1]), (accuracy[0], accuracy[1]))
    report.details[f"{key}_queries_per_image"] = ours.queries / len(subject.y)


def worst_case(report: Report, subject: Subject, epsilon: int) -> None:
    """The standard worst case on a 3-bit accelerator (bitsim), per image and for 1,000 images."""
    from hw.accelerator import BitSimVictim
    from hw.project import HardwareConfig

    victim = AcceleratorVictim(BitSimVictim(subject.model, HardwareConfig()), fold(subject.model))
    seconds, record = timed(lambda: WorstCase().evaluate(victim, subject.x, subject.y, epsilon_lsb=epsilon, seed=0))
    standing = float(np.mean(record.fell_to == NOT_FALLEN))
    note = f"epsilon {epsilon} LSB, {len(subject.y)} images, {standing:.1%} standing, {seconds:.0f} s"
    report.figure("worst_case_minutes_per_1000", seconds / 60 * 1000 / len(subject.y), note)
    report.details["worst_case_fell_to"] = np.bincount(record.fell_to + 2).tolist()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure everything, or what `--only` names."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", default=["pgd", "minimal", "accelerator", "worst"])
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    report = Report()
    if importlib.util.find_spec("art") is None:
        report.leave_out("*_vs_art", "not installed: pip install adversarial-robustness-toolbox")
        options.only = [name for name in options.only if name == "worst"]
    quick = options.quick
    cnn = trained("cnn4", 200) if {"pgd", "minimal"} & set(options.only) else None
    if cnn is not None and "pgd" in options.only:
        rounds = 3
        pgd(report, "pgd40_mlp_vs_art", trained("mlp", 500), EPSILON_MNIST // 4, rounds)
        part = cnn if not quick else Subject("cnn4", cnn.model, cnn.x[:100], cnn.y[:100])
        pgd(report, "pgd40_cnn_vs_art", part, EPSILON_MNIST // 3, rounds)
        pgd(report, "pgd40_resnet8_vs_art", resnet8(50 if quick else 100), EPSILON_CIFAR // 4, rounds)
    if cnn is not None and "minimal" in options.only:
        deepfool(report, cnn, 5 if quick else 50)
        carlini(report, cnn, 5 if quick else 50, 30 if quick else 100)
    if "accelerator" in options.only:
        try:
            small = trained("cnn4", 500, filters=(8, 16), hidden=(32,))  # the C simulation compiles in reasonable time
            bitsim, csim = accelerators(small.model)
        except ToolMissing as error:
            report.leave_out("*_accel_vs_art_csim", str(error))
        else:
            few = 2 if quick else 5
            square(report, small, bitsim, csim, few, 200)
            hopskipjump(report, small, bitsim, csim, few, 4)
    if "worst" in options.only:
        worst_case(report, trained("cnn4", 100 if quick else 1000), EPSILON_MNIST // 3)
    return report.write(options.json)


if __name__ == "__main__":
    main()
