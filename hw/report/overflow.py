"""overflow.json in words: which layers' numbers did not fit their types, and how often."""

from __future__ import annotations

from typing import Any

_PLACES = {"accumulator": "sums", "result": "results"}


def overflow_rows(record: Any, *, every: bool = False) -> list[dict[str, Any]]:
    """A row per layer and place where something overflowed; `every`: also where nothing did."""
    layers = record.get("layers", []) if isinstance(record, dict) else []
    return [
        {
            "layer": layer["layer"],
            "numbers": _PLACES[layer["place"]],
            "saturated": layer["saturated"],
            "wrapped": layer["wrapped"],
            "results_in_all": layer["of"],
        }
        for layer in layers
        if every or layer["saturated"] or layer["wrapped"]
    ]


def overflow_text(record: Any) -> str:
    """The record in a sentence; empty where a run has none."""
    if not isinstance(record, dict) or "engine" not in record:
        return ""
    if record["engine"] != "bitsim":
        return f"Overflow: not counted, it needs bitsim, and the engine of this run is {record['engine']}."
    images, rows = record["images"], overflow_rows(record)
    if not rows:
        return f"Overflow: on {images} clean test inputs every sum and every result fits its type."
    wrapped, saturated = (sum(row[key] for row in rows) for key in ("wrapped", "saturated"))
    return (
        f"Overflow: on {images} clean test inputs {wrapped:,} numbers wrapped around and {saturated:,} saturated. "
        "A quantized ReLU saturates by intent; a number that wraps is wrong by a whole range."
    )
