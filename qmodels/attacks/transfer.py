"""Black-box attack by transfer: examples made on models of the attacker's own, tried on the victim.

The sources may be of another seed, architecture or bit-width, or the unmapped model of a mapped victim. Source:
Papernot 2016, arXiv:1605.07277.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from qmodels.attacks.base import Attack, AttackResult, Diagnostics, look_like_probabilities
from qmodels.victims import GradientVictim, Images, Labels, Victim


def transfer(
    attack: Attack,
    sources: Sequence[GradientVictim],
    victim: Victim,
    x: Images,
    y: Labels,
    *,
    epsilon_lsb: float,
    seed: int,
) -> AttackResult:
    """Attack every source with `attack`; per image the first example that fools the victim, else the last one.

    Args:
        attack: any attack that runs on the sources.
        sources: models of the attacker's own.
        victim: is shown one example per image and source, nothing else.
        x: clean images on the grid.
        y: true labels.
        epsilon_lsb: radius in LSBs.
        seed: of the attack on each source.

    Returns:
        A result judged by `victim`; `queries` are the victim's. Record it with knowledge "transfer".

    Raises:
        ValueError: no sources.
    """
    if not sources:
        raise ValueError("transfer needs at least one source model")
    started = perf_counter()
    found, success = x.copy(), np.zeros(len(x), bool)
    queries = broken = 0
    softmax = False
    for source in sources:
        made = attack(source, x, y, epsilon_lsb=epsilon_lsb, seed=seed).x
        standing = np.flatnonzero(~success)
        found[standing] = made[standing]
        logits = victim.logits(found[standing])
        finite = np.isfinite(logits).all(axis=1)
        success[standing] = (logits.argmax(axis=1) != y[standing]) & finite
        queries, broken = queries + len(standing), broken + int(np.sum(~finite))
        softmax |= look_like_probabilities(logits)
    diagnostics = Diagnostics(non_finite_share=broken / max(queries, 1), softmax_outputs=softmax)
    return AttackResult(attack.label, found, success, epsilon_lsb, queries, perf_counter() - started, seed, diagnostics)
