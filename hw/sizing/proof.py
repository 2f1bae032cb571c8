"""A lower bound of a design's worst case: images on which intervals in its own integers rule out any attack."""

from __future__ import annotations

import numpy as np

from hw.certify import Certifier
from hw.simulate.bitsim import BitSim
from hw.sizing.pool import Mask
from qmodels.attacks.ball import Ball
from qmodels.errors import UserError
from qmodels.grid import Codes
from qmodels.victims import Labels, Victim


def certified_by_intervals(victim: Victim, x: Codes, y: Labels, epsilon_lsb: int) -> Mask:
    """Which images (N, ...) of classes `y` nothing in the L-infinity ball leads to another class.

    The cheapest certificate only (`hw/certify/doubled.py`, milliseconds a design): its price must be small beside the
    attacks that it may spare. Nothing is certified where it has no form: no classifier with logits, no bitsim.
    """
    nothing: Mask = np.zeros(len(x), np.bool_)
    if not isinstance(victim, BitSim):
        return nothing
    try:
        certifier = Certifier(victim)
    except UserError:  # no certificate is for such a network
        return nothing
    doubled = certifier.doubled(Ball(victim.grid, x, "linf", epsilon_lsb))
    if doubled is None:
        return nothing
    inside = (x >= victim.grid.lower) & (x <= victim.grid.upper)
    return np.asarray(doubled.certified(x, y, threads=1) & inside.reshape(len(x), -1).all(axis=1))
