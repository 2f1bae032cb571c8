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
from qmodels.criteria import MISCLASSIFICATION, Criterion, Outputs, Truth
from qmodels.grid import Codes
from qmodels.victims import GradientVictim, Victim


def judged(result: AttackResult, outputs: Outputs, y: Truth, criterion: Criterion = MISCLASSIFICATION) -> AttackResult:
    """The same examples judged by another victim, from its outputs for them.

    Args:
        result: examples made on any model.
        outputs: the victim's on `result.x`; one that is not finite is a failure of the attack.
        y: true labels, or what the criterion compares with.
        criterion: when an example has fooled the victim.

    Returns:
        `success` is the victim's; `queries` one per image; what the attack noticed about its gradients stays.
    """
    broken = np.asarray(~np.isfinite(outputs).all(axis=1))
    share = max(result.diagnostics.non_finite_share, float(np.mean(broken)) if len(broken) else 0.0)
    return replace(
        result,
        success=criterion.fooled(outputs, y),
        queries=len(y),
        diagnostics=replace(result.diagnostics, non_finite_share=share, queries_to_success=None),
    )


def transfer(
    attack: Attack,
    sources: Sequence[GradientVictim],
    victim: Victim,
    x: Codes,
    y: Truth,
    *,
    epsilon_lsb: float,
    seed: int,
    criterion: Criterion = MISCLASSIFICATION,
) -> AttackResult:
    """Attack every source with `attack`; per image the first example that fools the victim, else the last one.

    Args:
        attack: any attack that runs on the sources.
        sources: models of the attacker's own.
        victim: is shown one example per image and source, nothing else.
        x: codes of clean images.
        y: true labels, or what the criterion compares with.
        epsilon_lsb: radius in grid steps.
        seed: of the attack on each source.
        criterion: when an example has fooled the victim.

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
        made = attack(source, x, y, epsilon_lsb=epsilon_lsb, seed=seed, criterion=criterion, for_others=True)
        standing = np.flatnonzero(~success)
        found[standing] = made.x[standing]
        one = replace(made, x=found[standing])
        result = judged(one, victim.logits(one.x), y[standing], criterion)
        success[standing], queries = result.success, queries + result.queries
        share = max(share, result.diagnostics.non_finite_share)
    seconds = perf_counter() - started
    noted = Diagnostics(0.0, share)
    unbounded = Ball(victim.grid, x, attack.norm, epsilon_lsb).unbounded
    return AttackResult(attack.label, found, success, epsilon_lsb, queries, seconds, seed, noted, unbounded)
