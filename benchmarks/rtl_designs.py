"""The designs of benchmarks/rtl.py: trained ones with adversarial inputs of their own, and small drawn ones."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import make_classification

from hw.accelerator import Accelerator
from hw.experiment.open import open_run
from hw.experiment.pipeline import run_steps, steps_until
from hw.experiment.scoring import distinct
from hw.generate.hardware import HardwareConfig
from hw.report.step import FLOW
from hw.simulate.exactness import probe_inputs
from qmodels.attacks import PGD, Attack, HopSkipJumpLinf, Square
from qmodels.data import Dataset
from qmodels.formats import FixedPoint
from qmodels.grid import Codes, InputGrid
from qmodels.runtime import runtime
from qmodels.victims import predictions

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
#: Who makes the adversarial inputs: with gradients, by scores, by decisions.
ATTACKS: tuple[Attack, ...] = (PGD(steps=20), Square(queries=200), HopSkipJumpLinf(queries=200))
GRID = InputGrid(FixedPoint(6, 1))
NETWORKS = ("mlp", "wide", "conv")
SHAPES = {"mlp": (1, 12, 1), "wide": (1, 8, 1), "conv": (4, 4, 1)}


@dataclass(frozen=True)
class Recipe:
    """A config of the repo, what is changed in it, and how far its inputs are moved (grid steps)."""

    config: str
    settings: dict[str, Any]
    epsilons: tuple[float, ...]


_PLAIN = {"training": {"method": "standard", "epochs": 30, "quantization_aware": None}, "mapping.mu": 0}
_FEEDBACK = {"training": {"method": "feedback", "quantization_aware": None}}
RECIPES = {
    "digits MLP 64-24-10, 3 bits": Recipe(
        "digits.yaml",
        {"model": {"architecture": "mlp", "hidden": [24]}, "quantization.activation_bits": 5, **_PLAIN},
        (16, 32, 64),
    ),
    "tabular demo 30-32-16, 4 bits": Recipe("tabular.yaml", {}, (6, 12, 24, 48)),
    "jet tagger's kind 16-64-32-32-5, 6 bits": Recipe("jets.yaml", {"training.epochs": 5}, (8, 16, 32)),
    "digits CNN of the demo, 3 bits": Recipe("digits.yaml", _FEEDBACK, (16, 32)),
}


@dataclass(frozen=True)
class Trained:
    """A trained design, as `robust-hls run` makes it."""

    name: str
    accelerator: Accelerator
    data: Dataset
    epsilons: tuple[float, ...]

    def adversarial(self, wanted: int) -> dict[str, Codes]:
        """At least so many distinct inputs that fool this accelerator, by the attack that made them on it."""
        x = np.concatenate([self.data.test.x, self.data.train.x])[:2000]
        y = np.concatenate([self.data.test.y, self.data.train.y])[:2000]
        right = predictions(self.accelerator, x) == y
        x, y = x[right], y[right]
        found: dict[str, Codes] = {}
        for seed in range(10):
            for attack in ATTACKS:
                results = self.accelerator.attack(attack, x, y, epsilons=self.epsilons, seed=seed)
                made = [result.x[result.success].astype(x.dtype) for result in results]
                found[attack.kind] = distinct(np.concatenate([found.get(attack.kind, x[:0]), *made]))
            if len(distinct(np.concatenate(list(found.values())))) >= wanted:
                break
        return found

    def inputs(self, adversarial: Codes, wanted: int) -> Codes:
        """At least so many: the adversarial ones, all test inputs, random ones, and last the extremes."""
        clean = self.data.test.x
        random = max(-(-(wanted - len(clean) - len(adversarial)) // 2), 500)
        return np.concatenate([adversarial, probe_inputs(self.data.grid, clean, random, 0)])


def trained(name: str, folder: Path) -> Trained:
    """One of `RECIPES`, trained and quantized in a folder; one that is there is not made again."""
    recipe = RECIPES[name]
    settings: dict[str, Any] = {"name": "rtl", **recipe.settings}
    if recipe.config == "jets.yaml":
        settings |= {"data.name": str(_jets(folder)), "data.limit_train": 8000, "data.limit_test": 2000}
    run = open_run(CONFIGS / recipe.config, settings, out=folder / "".join(filter(str.isalnum, name)), resume=True)
    with run.folder.lock():
        run_steps(run, steps_until("quantize", FLOW), lambda line: None)
    return Trained(name, run.accelerator, run.data, recipe.epsilons)


def _jets(folder: Path) -> Path:
    """16 features of five classes: the jets themselves are not part of this repo."""
    x, y = make_classification(
        10_000, 16, n_informative=12, n_redundant=4, n_classes=5, n_clusters_per_class=2, class_sep=1.5, random_state=0
    )
    path = folder / "jets.npz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=x[:8000].astype(np.float32), y_train=y[:8000], x_test=x[8000:].astype(np.float32), y_test=y[8000:])  # fmt: skip  # noqa: E501
    return path


@dataclass(frozen=True)
class Made:
    """A drawn design: which network, how many bits, and what hls4ml makes of it."""

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


def random_codes(made: Made, count: int) -> Codes:
    """At least so many random inputs of a drawn design, half of them at the features' ends, and the extremes."""
    rng, shape = np.random.default_rng(1), SHAPES[made.network]
    parts: Sequence[Codes] = [GRID.random(count // 2, shape, rng), GRID.random_ends(count // 2, shape, rng)]
    return np.concatenate([*parts, GRID.extremes(shape)])


def processor_seconds() -> float:
    """Of this process and all that it waited for: what a busy machine does not change much."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Watch:
    """Processor seconds since it was last read."""

    def __init__(self) -> None:
        self._at = processor_seconds()

    def read(self) -> float:
        """Seconds since then."""
        before, self._at = self._at, processor_seconds()
        return round(self._at - before, 3)
