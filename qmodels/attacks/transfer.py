"""Black-box attack by transfer: examples made on models of the attacker's own, tried on the victim.

The sources may be of another seed, architecture or bit-width, or the unmapped model of a mapped victim. Source:
Papernot 2016, arXiv:1605.07277.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from qmodels.attacks.ball import Ball
from qmodels.attacks.base import Attack, AttackResult, Diagnostics
from qmodels.grid import Codes
from qmodels.victims import GradientVictim, Labels, Victim, predictions


def judged(result: AttackResult, answers: Labels, y: Labels) -> AttackResult:
    """The same examples judged by another victim, from its answers to them.

    Args:
        result: examples made on any model.
        answers: the victim's `predictions` on `result.x`; -1, a broken output, is a failure of the attack.
        y: true labels.

    Returns:
        `success` is the victim's; `queries` one per image; what the attack noticed about its gradients stays.
    """
    broken = answers < 0
    share = max(result.diagnostics.non_finite_share, float(np.mean(broken)) if len(broken) else 0.0)
    return replace(
        result,
        success=(answers != y) & ~broken,
        queries=len(y),
        diagnostics=replace(result.diagnostics, non_finite_share=share, queries_to_success=None),
    )


def transfer(
    attack: Attack,
    sources: Sequence[GradientVictim],
    victim: Victim,
    x: Codes,
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
        x: codes of clean images.
        y: true labels.
        epsilon_lsb: radius in grid steps.
        seed: of the attack on each source.

    Returns:
        A result judged by `victim`; `queries` are the victim's. Record it with knowledge "black-box".

    Raises:
        ValueError: no sources.
    """
    if not sources:
        raise ValueError("transfer needs at least one source model")
    started = perf_counter()
    found, success = x.copy(), np.zeros(len(x), bool)
    queries, share = 0, 0.0
    for source in sources:
        made = attack(source, x, y, epsilon_lsb=epsilon_lsb, seed=seed)
        standing = np.flatnonzero(~success)
        found[standing] = made.x[standing]
        one = replace(made, x=found[standing])
        result = judged(one, predictions(victim, one.x), y[standing])
        success[standing], queries = result.success, queries + result.queries
        share = max(share, result.diagnostics.non_finite_share)
    seconds = perf_counter() - started
    noted = Diagnostics(0.0, share)
    unbounded = Ball(victim.grid, x, attack.norm, epsilon_lsb).unbounded
    return AttackResult(attack.label, found, success, epsilon_lsb, queries, seconds, seed, noted, unbounded)
