"""What is asked of a certificate, and what is known so far of every input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.certify.certificate import Certificate, Method, Verdict
from hw.certify.kept import Kept
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.program import Network
from qmodels.attacks.ball import Ball
from qmodels.grid import Codes
from qmodels.victims import Labels, decisions


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Args:
        steps: of the multipliers' ascent for every input that intervals leave open; 0: chords only.
        complete: go on with branch and bound.
        timeout: seconds for each input that the rest leaves open.
        attack_steps: gradient steps of the attack that comes first.
        enumerate_up_to: a complete search tries all inputs of boxes with no more grid points.
    """

    steps: int = 30
    complete: bool = False
    timeout: float = 60.0
    attack_steps: int = 20
    enumerate_up_to: int = 1 << 22


@dataclass(frozen=True, eq=False)
class Subject:
    """The accelerator in question.

    Args:
        simulator: shows what the device does.
        network: the same, fused.
        classes: how many.
        kept: what was computed of the network.
        rng: of attacks.
    """

    simulator: BitSim
    network: Network
    classes: int
    kept: Kept
    rng: np.random.Generator

    def wrong(self, x: Codes, y: Labels) -> NDArray[np.bool_]:
        """Where the device decides wrongly, or not at all."""
        return np.asarray(decisions(self.simulator.logits(x)) != y)


class Verdicts:
    """Of every input of a ball: verdict, method, counterexample, seconds."""

    def __init__(self, subject: Subject, ball: Ball, y: Labels, effort: Effort) -> None:
        self.subject, self.ball, self.y, self.effort = subject, ball, y, effort
        count = len(ball)
        self.verdicts = np.full(count, "unknown", "<U9")
        self.methods = np.full(count, "none", "<U11")
        self.examples = ball.clean.copy()
        self.seconds = np.zeros(count)
        self.low, self.high = ball.box

    def set(self, rows: NDArray[np.int64], verdict: Verdict, method: Method) -> None:
        """What has been found out about some inputs."""
        self.verdicts[rows], self.methods[rows] = verdict, method

    def show(self, x: Codes, image: NDArray[np.int64], method: Method) -> None:
        """Try inputs (N, ...) of the balls around some images (N,)."""
        wrong = self.subject.wrong(x, self.y[image])
        fresh = wrong & (self.verdicts[image] == "unknown")
        self.examples[image[fresh]] = x[fresh]
        self.set(image[fresh], "broken", method)

    def certificate(self) -> Certificate:
        """As it stands."""
        ball = self.ball
        return Certificate(
            self.verdicts, self.methods, self.examples, ball.epsilon, ball.norm, self.seconds, self.effort.complete
        )


Tick = Callable[[int], None]  # told how many inputs have been dealt with, as they are
