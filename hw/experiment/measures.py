"""What lies behind the accuracies: distance to the boundary, and how changes and gradients pass the quantizers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.experiment.attacks import AttackJob, test_images
from hw.experiment.contestants import Contestant, accelerator_of, sources
from hw.experiment.run import Run
from qmodels.attacks import AttackResult
from qmodels.criteria import AnomalyScore
from qmodels.grid import Codes
from qmodels.metrics.distance import UNITS, BoundaryDistance, Lengths
from qmodels.metrics.masking import Row
from qmodels.metrics.shift import amplification, gradient_agreement, quantization_shift, zero_gradient_share
from qmodels.storage import finite_or_none
from qmodels.tasks import anomaly_threshold, area_under_curve
from qmodels.victims import GradientModel

CHANGES_LSB = (1, 2, 4, 8, 16, 32)  # sizes at which the quantization shift is measured


def boundary_record(victim: Contestant, clean: Row, distance: BoundaryDistance) -> dict[str, Any]:
    """One victim's distance to the boundary: the per-sample minimum over all attacks, transfers included."""
    if clean.correct is None:
        raise ValueError("the clean row must carry the answers")
    return {"model": victim.label, "victim": victim.victim.name, "bits": victim.bits} | distance.summary(clean.correct)


def change_record(
    job: AttackJob, right: NDArray[np.bool_], success: NDArray[np.bool_], lengths: dict[str, Lengths]
) -> dict[str, Any]:
    """Medians, in four norms, of how far the successful examples of one attack lie from their clean inputs.

    Args:
        job: what was run.
        right: which inputs (N,) the victim got right when clean; others need no change.
        success: which of them the attack fooled.
        lengths: of the changes.
    """
    fooled = right & success
    medians = {f"median_{norm}_{UNITS[norm]}": _median(every[fooled]) for norm, every in lengths.items()}
    return {
        "model": job.source.label,
        "victim": job.source.victim.name,
        "attack": job.label,
        "attacker": job.attacker,
        "norm": job.attack.norm,
        "epsilon_lsb": finite_or_none(job.epsilon_lsb),
        "fooled": int(fooled.sum()),
        "right_when_clean": int(right.sum()),
        **medians,
    }


def _median(values: NDArray[np.float64]) -> float | None:
    return float(np.median(values)) if len(values) else None


def query_curve(job: AttackJob, result: AttackResult) -> dict[str, Any] | None:
    """Accuracy had every image been given only so many queries; None for attacks that keep no count per image."""
    spent = result.diagnostics.queries_to_success
    if spent is None:
        return None
    most = getattr(job.attack, "queries", max(spent, default=0))
    budgets = sorted({b for b in (m * 10**e for e in range(7) for m in (1, 2, 5)) if b < most} | {most})
    return {
        "attack": job.label,
        "norm": job.attack.norm,
        "epsilon_lsb": finite_or_none(job.epsilon_lsb),
        **job.radius.as_json(),
        "model": job.source.label,
        "victim": job.source.victim.name,
        "queries_per_image": budgets,
        "accuracy": [result.accuracy_after(budget) for budget in budgets],
    }


def detection(run: Run) -> dict[str, Any]:
    """How well an auto-encoder tells anomalies apart, clean, on all test samples; nothing for other tasks.

    At the run's threshold, and at the victim's own: from its scores of the normal validation samples, as the run's was.
    """
    criterion, (x, y) = run.task.criterion, run.data.test
    if not isinstance(criterion, AnomalyScore):
        return {}
    normal = run.data.validation.x[run.data.validation.y == 0]
    found = []
    for victim in [*sources(run), accelerator_of(run)]:
        scores = victim.victim.logits(x)
        anomalies = y == 1
        normal_scores = victim.victim.logits(normal)[:, 0].astype(np.float64)
        own = anomaly_threshold(normal_scores, run.config.task.false_positive_rate)
        at_own = _rates(scores[:, 0] > own, anomalies)
        area = area_under_curve(scores[:, 0].astype(np.float64), anomalies)
        found.append(
            {"model": victim.label, "victim": victim.victim.name}
            | _rates(criterion.alarms(scores), anomalies)
            | {"own_threshold": own, **{f"{name}_at_own": rate for name, rate in at_own.items()}}
            | {"area_under_curve": area}
        )
    return {"detection": found}


def _rates(alarms: NDArray[np.bool_], anomalies: NDArray[np.bool_]) -> dict[str, float | None]:
    return {
        "detection_rate": float(alarms[anomalies].mean()) if anomalies.any() else None,
        "false_positive_rate": float(alarms[~anomalies].mean()) if not anomalies.all() else None,
    }


def layer_measures(run: Run, job: AttackJob | None, result: AttackResult | None) -> dict[str, Any]:
    """Shift, amplification and gradients of the quantized model beside those of the float model it was made from.

    Args:
        run: with a quantized model; the float one is missing when the user brought QKeras along.
        job: whose examples show how a change grows; None: there are none, and only gradients are measured.
        result: these examples.
    """
    x, y = test_images(run)
    found: dict[str, Any] = {"gradients": {"loss": run.task.gradient_loss, "images": len(y)} | _gradients(run)}
    if job is None or result is None:
        return found
    x, attacked = x[: len(result.x)], result.x[: len(x)]
    values, harmed = run.data.grid.to_values(x), run.data.grid.to_values(attacked)
    found["examples"] = {
        "attack": job.label,
        "epsilon_lsb": finite_or_none(job.epsilon_lsb),
        "made_on": f"{job.source.label}/{job.source.victim.name}",
        "images": len(x),
    }
    found["quantization_shift"] = [
        {"layer": s.layer, "mean_ratio": finite_or_none(s.mean), "median_ratio": finite_or_none(s.median),
         "absorbed_share": finite_or_none(s.absorbed_share)}
        for s in quantization_shift(run.quantized_model, values, harmed, run.data.grid.feed)
    ]  # fmt: skip
    found["quantization_shift_by_size"] = _shift_by_size(run, x, attacked)
    if run.mapped_model is not None:
        found["error_amplification"] = [
            {"layer": a.layer, "float_relative_change": a.reference, "quantized_relative_change": a.quantized}
            for a in amplification(run.mapped_model, run.quantized_model, values, harmed)
        ]
    return found


def _shift_by_size(run: Run, x: Codes, attacked: Codes) -> list[dict[str, Any]]:
    """What the quantizers do to small and to large changes: the examples' directions, every feature equally far."""
    grid, direction, found = run.data.grid, np.sign(attacked.astype(np.int64) - x), []
    for size in CHANGES_LSB:
        moved = grid.nearest(x + size * direction.astype(np.float64))
        shifts = quantization_shift(run.quantized_model, grid.to_values(x), grid.to_values(moved), grid.feed)
        inner = [shift for shift in shifts if np.isfinite(shift.mean)]
        if inner:
            found.append({
                "change": f"{size} LSB",
                "mean_ratio": float(np.mean([shift.mean for shift in inner])),
                "least_ratio": min(shift.mean for shift in inner),
                "most_ratio": max(shift.mean for shift in inner),
                "absorbed_share": float(np.mean([shift.absorbed_share for shift in inner])),
            })  # fmt: skip
    return found


def _gradients(run: Run) -> dict[str, float]:
    """Agreement of the float model's gradients with the straight-through ones, and how many are exactly zero."""
    x, y = test_images(run)
    loss, criterion = run.task.gradient_loss, run.task.criterion
    quantized = GradientModel(run.prequantized.model, run.data.grid, run.task.head)
    if run.mapped_model is None:
        return {"quantized_zero_gradient_share": zero_gradient_share(quantized, x, y, loss, criterion)}
    mapped = GradientModel(run.mapped_model, run.data.grid, run.task.head)
    agreement = gradient_agreement(mapped, quantized, x, y, loss, criterion)
    return {
        "mean_cosine": agreement.cosine,
        "mean_sign_agreement": agreement.sign,
        "float_zero_gradient_share": agreement.zero_share_reference,
        "quantized_zero_gradient_share": agreement.zero_share_quantized,
    }
