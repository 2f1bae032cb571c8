"""What finished tables of `robust-hls tables goliath_cifar10` hold: defences, precisions, attacks, exactness.

Reads results.json of the tables' folder; computes no accuracy of its own. Rows that are not there yet are named.
Prints what the source's five statements can be held against, as tables.

    robust-hls tables goliath_cifar10 --data-dir FOLDER_WITH_cifar10.npz   (some hours; continues where it stopped)
    python benchmarks/goliath.py [FOLDER] [--json OUT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.common import Report, parser  # noqa: E402
from benchmarks.goliath_tables import TABLES, defence_of, precision_of, settings_of  # noqa: E402
from hw.report.table import markdown_lines, records_table  # noqa: E402

Record = dict[str, Any]


def main() -> int:
    """Count what is there; 1 where a simulator disagreed or a row is missing."""
    arguments = parser(__doc__)
    arguments.add_argument("folder", nargs="?", type=Path, default=ROOT / "hls_projects" / "tables_goliath_cifar10")
    asked = arguments.parse_args()
    path = asked.folder / "results.json"
    if not path.is_file():
        print(f"{path}: no such file; first: robust-hls tables goliath_cifar10, then name its folder", file=sys.stderr)
        return 2
    results = json.loads(path.read_text())
    report = Report()
    for key, (value, note) in counted(results).items():
        report.figure(key, value, note)
    if missing := results["rows_missing"]:
        report.leave_out("rows", ", ".join(missing))
    report.details = {name: make(results) for name, make in TABLES.items()}
    for name, records in report.details.items():
        if records:
            print("\n".join(["", f"### {name}", "", *markdown_lines(records_table(records))]))
    report.write(asked.json)
    return int(report.figures["mismatches"] > 0 or bool(missing))


def counted(results: Record) -> dict[str, tuple[float, str]]:
    """Key -> figure and what it counts."""
    rows = settings_of(results)
    unaware = {column["title"] for column in results["config"]["columns"] if column["attacker"] == "unaware"}
    defences = {name for settings in rows.values() if (name := defence_of(settings)) is not None}
    precisions = {precision_of(settings) for settings in rows.values()}
    attacked = [cell for cell in results["cells"] if cell["attack"] != "clean"]
    aware = [
        cell for cell in attacked
        if defence_of(rows[cell["row"]]) and cell["table"] == "white-box" and cell["column"] not in unaware
    ]  # fmt: skip
    gates = [row["exactness"] for row in results["rows"].values()]
    kinds = sorted({column["attack"]["kind"] for column in results["config"]["columns"]})
    if any(cell["line"] == "float" for cell in attacked):
        precisions.add("float32")
    return {
        "defences": (len(defences), ", ".join(sorted(defences))),
        "precisions": (len(precisions), ", ".join(sorted(precisions))),
        "attacks": (len(kinds), ", ".join(kinds)),
        "cells": (len(attacked), "numbers under attack"),
        "adaptive_cells": (len(aware), "of them by an attacker who knows the defence"),
        "mismatches": (
            sum(gate["mismatched_outputs"] for gate in gates),
            f"outputs over {sum(gate['inputs'] for gate in gates)} inputs of {len(gates)} accelerators",
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
