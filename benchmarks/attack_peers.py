"""Attacks of the Adversarial Robustness Toolbox and of Foolbox behind one signature: codes, labels -> codes.

Settings are those of our attacks wherever the library has a setting for it. The libraries get the same folded model as
ours (`Subject.folded`), and batches of the size at which they are fastest (`fastest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attack_subjects import Subject
from qmodels.grid import IMAGE_GRID, Codes, Values
from qmodels.runtime import runtime
from qmodels.victims import Labels, Victim

Peer = Callable[[Codes, Labels], Codes]
LEVELS = IMAGE_GRID.span
BATCHES = (100, 200, 500, 1000)
CW_RATE, CW_WEIGHT = 5e-2, 1.0  # with these a hundred iterations are enough


def fastest(make: Callable[[int], Peer], subject: Subject) -> int:
    """The batch size at which a library's attack handles most images a second; each is warmed up once.

    Args:
        make: the attack for a batch size.
        subject: what it attacks; sizes beyond the number of its images are not tried.
    """
    sizes = [size for size in BATCHES if size <= len(subject.y)] or [len(subject.y)]

    def rate(size: int) -> float:
        attack, part = make(size), subject.first(size)
        attack(part.x, part.y)
        start = time.perf_counter()
        attack(part.x, part.y)
        return size / (time.perf_counter() - start)

    return max(sizes, key=rate)


class Counted:
    """A victim as a library's predict function, that counts the images it is shown."""

    def __init__(self, victim: Victim) -> None:
        self.victim, self.queries = victim, 0

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Logits."""
        self.queries += len(x)
        return self.victim.logits(IMAGE_GRID.to_codes(x))


def pgd(library: str, subject: Subject, epsilon_lsb: float, steps: int, batch: int = BATCHES[1]) -> Peer:
    """PGD with one random start and steps of 2.5 epsilon / steps."""
    radius = epsilon_lsb * float(subject.grid.step)
    step = 2.5 * radius / steps
    if library == "art":
        from art.attacks.evasion import ProjectedGradientDescent

        return _art(
            ProjectedGradientDescent(
                _art_model(subject), eps=radius, eps_step=step, max_iter=steps, num_random_init=1, batch_size=batch,
                verbose=False,
            ),
            subject,
        )  # fmt: skip
    from foolbox.attacks import LinfPGD

    return _foolbox(LinfPGD(abs_stepsize=step, steps=steps), subject, radius, batch)


def carlini(library: str, subject: Subject, steps: int, batch: int = BATCHES[1]) -> Peer:
    """CW-L2 with 3 binary steps."""
    if library == "art":
        from art.attacks.evasion import CarliniL2Method

        return _art(
            CarliniL2Method(
                _art_model(subject), max_iter=steps, binary_search_steps=3, learning_rate=CW_RATE,
                initial_const=CW_WEIGHT, batch_size=batch, verbose=False,
            ),
            subject,
        )  # fmt: skip
    from foolbox.attacks import L2CarliniWagnerAttack

    attack = L2CarliniWagnerAttack(binary_search_steps=3, steps=steps, stepsize=CW_RATE, initial_const=CW_WEIGHT)
    return _foolbox(attack, subject, None, batch)


def deepfool(library: str, subject: Subject, batch: int = BATCHES[1]) -> Peer:
    """DeepFool, 100 steps, overshoot 0.008, all ten classes."""
    if library == "art":
        from art.attacks.evasion import DeepFool

        settings = {"max_iter": 100, "epsilon": 0.008, "nb_grads": 10, "batch_size": batch, "verbose": False}
        return _art(DeepFool(_art_model(subject), **settings), subject)
    from foolbox.attacks import L2DeepFoolAttack

    return _foolbox(L2DeepFoolAttack(steps=100, candidates=10, overshoot=0.008), subject, None, batch)


def hopskipjump(library: str, subject: Subject, rounds: int) -> Callable[[Counted], Peer]:
    """HopSkipJump in L2: `rounds` rounds of at most 200 queries for the direction, 20 in the first."""
    if library == "art":
        from art.attacks.evasion import HopSkipJump

        settings = {"norm": 2, "max_iter": rounds, "max_eval": 200, "init_eval": 20, "init_size": 100, "verbose": False}
        return lambda asked: _art(HopSkipJump(_art_black_box(asked, subject), **settings), subject, with_labels=False)
    from foolbox.attacks import HopSkipJumpAttack
    from foolbox.models import NumPyModel

    attack = HopSkipJumpAttack(steps=rounds, initial_gradient_eval_steps=20, max_gradient_eval_steps=200)

    def on(asked: Counted) -> Peer:
        model = NumPyModel(asked, bounds=_bounds(subject))
        return lambda x, y: _usable(attack(model, IMAGE_GRID.to_values(x), y, epsilons=None)[1], x)

    return on


def square(subject: Subject, epsilon_lsb: float, budget: int) -> Callable[[Counted], Peer]:
    """ART's Square attack in the L-infinity ball; Foolbox has none."""
    from art.attacks.evasion import SquareAttack

    settings = {"norm": np.inf, "eps": epsilon_lsb / LEVELS, "max_iter": budget, "p_init": 0.8, "nb_restarts": 1,
                "batch_size": len(subject.y), "verbose": False}  # fmt: skip
    return lambda asked: _art(SquareAttack(_art_black_box(asked, subject), **settings), subject)


def _art(attack: Any, subject: Subject, with_labels: bool = True) -> Peer:
    grid, classes = subject.grid, int(subject.model.output_shape[-1])

    def generate(x: Codes, y: Labels) -> Codes:
        labels = (np.eye(classes, dtype=np.float32)[y],) if with_labels else ()
        return grid.to_codes(attack.generate(grid.to_values(x), *labels))

    return generate


def _bounds(subject: Subject) -> tuple[float, float]:
    return subject.grid.format.minimum, subject.grid.format.maximum


def _art_model(subject: Subject) -> Any:
    """ART's view of the folded model, logits and cross-entropy from logits."""
    from art.estimators.classification import TensorFlowV2Classifier

    loss = runtime().keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return TensorFlowV2Classifier(
        subject.folded,
        nb_classes=int(subject.model.output_shape[-1]),
        input_shape=subject.x.shape[1:],
        loss_object=loss,
        clip_values=_bounds(subject),
    )


def _art_black_box(asked: Counted, subject: Subject) -> Any:
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    return BlackBoxClassifierNeuralNetwork(
        asked, subject.x.shape[1:], 10, channels_first=False, clip_values=_bounds(subject)
    )


def _foolbox(attack: Any, subject: Subject, radius: float | None, batch: int) -> Peer:
    import foolbox

    model, tf = foolbox.TensorFlowModel(subject.folded, bounds=_bounds(subject)), runtime().tf

    def generate(x: Codes, y: Labels) -> Codes:
        values: Values = IMAGE_GRID.to_values(x)
        parts = [slice(start, start + batch) for start in range(0, len(x), batch)]
        found = np.concatenate(
            [attack(model, tf.constant(values[p]), tf.constant(y[p]), epsilons=radius)[1].numpy() for p in parts]
        )
        black = ~found.reshape(len(x), -1).any(axis=1)  # what its CW gives where it found nothing: no example
        return IMAGE_GRID.to_codes(np.where(black[:, None, None, None], values, found))

    return generate


def _usable(found: Any, x: Codes) -> Codes:
    """Foolbox gives None where it found no example at all: the attack failed there."""
    return x if found is None else IMAGE_GRID.to_codes(np.asarray(found))
