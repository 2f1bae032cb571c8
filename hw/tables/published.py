"""The published tables, as they stand in the source, for comparison. Accuracies there are per cent.

Source: Chang Song, Elias Fallon, Hai Li, "Improving Adversarial Robustness in Weight-quantized Neural Networks"
(AAAI 2021 workshop RSEML, arXiv:2012.14965). "(Q)" there means weights of 3 bits. It does not state the
radii of its attacks.
"""

from __future__ import annotations

import csv
from importlib.resources import files

SOURCE = "Song, Fallon, Li, arXiv:2012.14965 (AAAI 2021 workshop RSEML)"
Published = dict[tuple[str, str, str], float]  # table, row, column -> accuracy, a fraction


def published_tables(name: str | None) -> Published:
    """Both tables of a data set (`mnist`, `cifar10`); empty for None."""
    found: Published = {}
    for table in ("white-box", "black-box") if name else ():
        text = (
            files("hw.tables").joinpath(f"published/{name}_{table.replace('-', '_')}.csv").read_text(encoding="utf-8")
        )
        for record in csv.DictReader(text.splitlines()):
            row = record.pop("Model")
            found |= {(table, row, column): float(value) / 100 for column, value in record.items()}
    return found
