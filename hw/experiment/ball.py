"""The ball that one ε and one norm draw around an image, and the one that stands for a whole evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from qmodels.metrics.masking import CLEAN, Row, is_bounded

Ball = tuple[str, float, str]  # norm, ε and its unit: what one attack is allowed to change


def headline_ball(rows: Iterable[Row]) -> Ball | None:
    """The ball in which most attacks were run, L-infinity first, among equals the largest: one ε for all lines."""
    attacks: dict[Ball, set[str]] = {}
    for row in rows:
        if row.knowledge in ("white-box", "black-box") and row.attack != CLEAN and is_bounded(row):
            attacks.setdefault(row.ball, set()).add(row.attack)
    return max(attacks, key=lambda ball: (ball[0] == "linf", len(attacks[ball]), ball[1]), default=None)
