"""What is proved, beside what attacks leave: the brackets of results.json."""

from __future__ import annotations

from typing import Any

from hw.report.source import Results

TITLE = "Certificates: the true accuracy is between certified and attacked"


def certificate_rows(plain: Any) -> list[dict[str, Any]]:
    """A row for each radius; none where nothing was to be proved."""
    found = plain.get("certificates") if isinstance(plain, dict) else None
    return [
        {
            "epsilon_lsb": one["epsilon_lsb"],
            "images": one["n"],
            "certified_%": round(100 * one["accuracy"], 1),
            "attacked_%": round(100 * one["worst_case"], 1),
            "undecided_%": round(100 * one["unknown"], 1),
            "complete": "yes" if one["complete"] else "no",
            "seconds": round(one["seconds"], 1),
        }
        for one in found or []
    ]


def certificate_texts(results: Results) -> list[str]:
    """A sentence for each radius."""
    return [
        f"certified: with ε = {row['epsilon_lsb']} LSB the accelerator's accuracy on {row['images']} images is "
        f"at least {row['certified_%']:g} % (proved) and at most {row['attacked_%']:g} % (attacked)"
        for row in certificate_rows(results.plain)
    ]
