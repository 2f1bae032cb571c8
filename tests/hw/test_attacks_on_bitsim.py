"""Every attack there is, on the real accelerator: the QKeras model's gradients, bitsim's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.attacks import quick_attack
from helpers.models import BITS, Toolbox

from hw import Accelerator
from hw.simulate.bitsim import BitSim
from qmodels.architectures import ModelConfig, build_float
from qmodels.attacks import Attack, AttackResult, attack_kinds
from qmodels.attacks.worst_case import STANDARD
from qmodels.data import Split
from qmodels.metrics.distance import change_lengths
from qmodels.quantize.model import quantize_model
from qmodels.runtime import runtime
from qmodels.victims import predictions

pytestmark = pytest.mark.gxx
EPSILON = {"linf": 20.0, "l2": 100.0, "l1": 500.0, "l0": 8.0}  # LSBs, and pixels: some images fall, some stand
STEPS, QUERIES, IMAGES, SEED = 8, 250, 24, 2
#: What these need to find anything in so few steps.
EAGER: dict[str, dict[str, Any]] = {
    "cw-l2": {"initial_weight": 4.0, "rate": 0.1},
    "cw-linf": {"initial_weight": 4.0},
    "ead": {"initial_weight": 4.0},
    "zoo": {"step": 0.5, "weight": 1e-6},
}


def attack_of(kind: str) -> Attack:
    """A few steps or queries of it; the worst case has all its members."""
    more: dict[str, Any] = dict(EAGER.get(kind, {}))
    if kind == "worst-case":
        more = {"attacks": [attack_of(member.kind) for member in STANDARD]}
    return quick_attack(kind, STEPS, QUERIES, **more)


@pytest.fixture(scope="module")
def accelerator(toolbox: Toolbox) -> Accelerator:
    """A small network that has learned its digits."""
    keras, data = runtime().keras, toolbox.data
    model = build_float(ModelConfig(architecture="mlp", hidden=(16,)), data.input_shape, data.classes, seed=0)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.train.values, data.train.y, epochs=30, batch_size=50, verbose=0)
    return Accelerator(quantize_model(model, BITS, data.train.values).model)


@pytest.fixture(scope="module")
def images(toolbox: Toolbox) -> Split:
    return toolbox.data.test.take(IMAGES)


class Runs:
    """One run of every kind that is asked for, and how many inputs the simulator was shown in it."""

    def __init__(self, accelerator: Accelerator, images: Split) -> None:
        self.accelerator, self.images = accelerator, images
        self.done: dict[str, tuple[AttackResult, int]] = {}

    def __getitem__(self, kind: str) -> tuple[AttackResult, int]:
        if kind not in self.done:
            attack, shown = attack_of(kind), []
            original = BitSim.logits
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(BitSim, "logits", lambda simulator, x: (shown.append(len(x)), original(simulator, x))[1])
                epsilons = [EPSILON[attack.norm]]
                (result,) = self.accelerator.attack(attack, *self.images, epsilons=epsilons, seed=SEED)
            self.done[kind] = result, sum(shown)
        return self.done[kind]


@pytest.fixture(scope="module")
def runs(accelerator: Accelerator, images: Split) -> Runs:
    return Runs(accelerator, images)


def clean_accuracy(accelerator: Accelerator, images: Split) -> float:
    return float(np.mean(predictions(accelerator, images.x) == images.y))


def test_the_network_has_learned(accelerator: Accelerator, images: Split) -> None:
    """Else it would fall to anything."""
    assert clean_accuracy(accelerator, images) > 0.8


@pytest.mark.parametrize("kind", attack_kinds())
def test_on_the_grid_in_the_ball_and_judged_by_bitsim(
    kind: str, runs: Runs, accelerator: Accelerator, images: Split
) -> None:
    attack, (result, shown) = attack_of(kind), runs[kind]
    assert accelerator.name == "bitsim"
    assert result.x.dtype == np.uint8 and result.x.shape == images.x.shape
    assert change_lengths(result.x, images.x)[attack.norm].max() <= EPSILON[attack.norm]
    fresh = BitSim.from_graph(accelerator.graph)
    np.testing.assert_array_equal(result.success, fresh.logits(result.x).argmax(axis=1) != images.y)
    assert shown >= len(images.y)
    if attack.knowledge == "black-box":
        assert shown >= result.queries > len(images.y)
    if attack.family != "noise":
        assert result.accuracy < clean_accuracy(accelerator, images)


def test_nothing_is_worse_than_the_worst_case(runs: Runs) -> None:
    worst, _ = runs["worst-case"]
    rivals = [kind for kind in attack_kinds() if attack_of(kind).norm == "linf" and kind != "worst-case"]
    assert {member.kind for member in STANDARD} < set(rivals)
    accuracies = {kind: runs[kind][0].accuracy for kind in rivals}
    assert worst.accuracy <= min(accuracies.values()), accuracies
