"""From inputs and a radius to verdicts: of every input the cheapest method that decides."""

from __future__ import annotations

import numpy as np

from hw.certify.certificate import Certificate
from hw.certify.doubled import Doubled, double
from hw.certify.kept import Kept
from hw.certify.verdicts import Effort, Subject, Tick, Verdicts
from hw.certify.work import Work
from hw.simulate.bitsim import BitSim
from hw.simulate.bitsim.fuse import fuse
from hw.simulate.bitsim.program import Network, Softmax
from qmodels.attacks.ball import Ball
from qmodels.errors import UserError
from qmodels.victims import Labels

_CHUNK = 128  # boxes that are bounded at once
_USUAL = Effort()
_FLOAT_BITS = 24  # simulators give outputs in float32


class Certifier:
    """Proves what one accelerator decides."""

    def __init__(self, simulator: BitSim) -> None:
        """Take the network that bitsim simulates.

        Raises:
            UserError: it is no classifier of one input with logits as its output.
        """
        network = fuse(simulator.network)
        _check(network)
        self.subject = Subject(simulator, network, network.outputs[0].size, Kept(), np.random.default_rng(0))
        self._doubled: dict[int, Doubled | None] = {}

    def certify(self, ball: Ball, y: Labels, effort: Effort = _USUAL, tick: Tick = lambda _: None) -> Certificate:
        """Verdicts on every input of the ball.

        Args:
            ball: inputs, norm and radius.
            y: true classes (N,).
            effort: how hard to try.
            tick: told how many inputs have been dealt with, as they are.
        """
        known = Verdicts(self.subject, ball, np.asarray(y), effort)
        work = Work(known, self.doubled(ball))
        left = work.at_once(tick)
        for first in range(0, len(left), _CHUNK):
            work.chunk(left[first : first + _CHUNK], tick)
        return known.certificate()

    def doubled(self, ball: Ball) -> Doubled | None:
        """The network that bounds whole balls of this radius at once, where there is one."""
        grid = ball.grid
        plain = grid.frozen is None and not np.ndim(grid.lower) and not np.ndim(grid.upper)
        if not plain or ball.norm != "linf" or np.ndim(ball.epsilon) or ball.epsilon >= grid.span:
            return None
        radius = int(np.floor(ball.epsilon))
        if radius not in self._doubled:
            self._doubled[radius] = double(self.subject.network, grid, radius, self.subject.kept)
        return self._doubled[radius]


def _check(network: Network) -> None:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UserError(
            f"certify: the network has {len(network.inputs)} inputs and {len(network.outputs)} outputs; "
            "certificates are for one input and one output of logits"
        )
    if isinstance(network.ops[-1], Softmax):
        raise UserError("certify: the network ends in a softmax; certificates are for logits: leave the last layer out")
    if network.outputs[0].format.width > _FLOAT_BITS:
        raise UserError(
            f"certify: the outputs have {network.outputs[0].format.width} bits; up to {_FLOAT_BITS} are compared as "
            "the device compares them"
        )
    if network.outputs[0].size < 2:
        raise UserError("certify: the network has one output; certificates are for two classes or more")
