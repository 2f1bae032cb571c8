"""What results.json measures besides accuracy, as tables and lists for the report."""

from __future__ import annotations

from typing import Any

_TABLES = {
    "boundary_distance": "Distance to the decision boundary: nearest example of all attacks, medians",
    "quantization_shift": "Quantization shift by layer: what a quantizer leaves of the attack's change",
    "error_amplification": "Error amplification by layer: relative change, float and quantized",
}


def measure_tables(measures: Any) -> dict[str, list[dict[str, Any]]]:
    """Title -> records, for those tables that were measured."""
    found = {title: measures.get(key) for key, title in _TABLES.items()} if isinstance(measures, dict) else {}
    return {title: records for title, records in found.items() if isinstance(records, list) and records}


def measure_figures(measures: Any) -> dict[str, dict[str, Any]]:
    """Title -> key and value lists."""
    if not isinstance(measures, dict):
        return {}
    return {
        "Input gradients, float and straight-through": measures.get("gradients") or {},
        "Examples of the layer tables": measures.get("examples") or {},
    }


def shown(value: Any) -> str:
    """A value of any table: four digits are enough of a float, a dash stands for nothing."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) or "–"
    return "–" if value is None else str(value)
