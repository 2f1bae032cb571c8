"""What is measured beside the share: a regression's errors and an auto-encoder's scores, clean and attacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw.report.source import NORMS, Results
from qmodels.metrics.masking import CLEAN, Row, is_bounded

#: Keys of `Row.errors` and their heads.
HEADS = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "mean_score": "mean score", "median_score": "median score"}
TITLES = {"regression": "Error against the true values, clean and attacked", "anomaly": "Reconstruction error (score)"}


def error_title(results: Results) -> str:
    """What `error_records` shows."""
    return TITLES.get(next((row.task for row in results.rows if row.errors), ""), "")


def error_records(results: Results) -> list[dict[str, Any]]:
    """One record per row that has errors: what was attacked how, and each error; bounded attacks, no transfers."""
    return [
        {
            "model": row.model,
            "victim": row.victim,
            "attack": row.attack,
            "made on": row.source or "–",
            "norm": "–" if row.attack == CLEAN else NORMS.get(row.norm, row.norm),
            "ε, LSB": "–" if row.attack == CLEAN else f"{row.epsilon_lsb:g}",
        }
        | {HEADS.get(key, key): value for key, value in row.errors.items()}
        for row in results.rows
        if row.errors and (row.attack == CLEAN or (is_bounded(row) and row.knowledge != "transfer"))
    ]


def error_texts(results: Results) -> list[str]:
    """A sentence a victim: its first error when clean, and what the worst bounded attack makes of it."""
    found = []
    for model, victim in dict.fromkeys((row.model, row.victim) for row in results.rows if row.errors):
        rows = [row for row in results.rows if (row.model, row.victim) == (model, victim) and row.errors]
        clean = next((row for row in rows if row.attack == CLEAN), None)
        attacked = [row for row in rows if row.attack != CLEAN and is_bounded(row)]
        if clean is None or not attacked:
            continue
        key = main_error(rows)
        worst = worst_of(attacked, key, rises=not _hides(results))
        found.append(
            f"{HEADS.get(key, key)} of {model} {victim}: {_value(clean, key):.4g} clean, {_value(worst, key):.4g} "
            f"after {worst.attack} with ε = {worst.epsilon_lsb:g} LSB"
        )
    return found


def error_curves(results: Results) -> dict[tuple[str, str, float | None], list[tuple[float, float]]]:
    """Victim -> (ε, first error), ε rising from 0, of the worst L-infinity attack at every ε."""
    curves = {}
    for key in dict.fromkeys((row.model, row.victim, row.bits) for row in results.rows if row.errors):
        rows = [row for row in results.rows if (row.model, row.victim, row.bits) == key and row.errors]
        name = main_error(rows)
        clean = [(0.0, _value(row, name)) for row in rows if row.attack == CLEAN]
        attacked = [row for row in rows if row.attack != CLEAN and row.norm == "linf" and is_bounded(row)]
        points = [
            (
                epsilon,
                _value(worst_of([r for r in attacked if r.epsilon_lsb == epsilon], name, not _hides(results)), name),
            )
            for epsilon in sorted({row.epsilon_lsb for row in attacked})
        ]
        curves[key] = clean + points
    return curves


def main_error(rows: Sequence[Row]) -> str:
    """The error that is drawn: the first one measured."""
    return next((next(iter(row.errors)) for row in rows if row.errors), "")


def worst_of(rows: Sequence[Row], key: str, rises: bool) -> Row:
    """The row with the largest error, or the smallest where an attack lowers it."""
    return max(rows, key=lambda row: _value(row, key) if rises else -_value(row, key))


def _hides(results: Results) -> bool:
    criterion = (results.plain.get("task") or {}).get("criterion") or {}
    return bool(criterion.get("direction") == "hide")


def _value(row: Row, key: str) -> float:
    return (row.errors or {}).get(key, float("nan"))
