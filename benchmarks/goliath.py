"""What finished tables of `robust-hls tables goliath_cifar10` hold: defences, precisions, attacks, exactness.

Reads results.json of the tables' folder; computes no accuracy of its own. Rows that are not there yet are named.
Prints what the source's five statements can be held against, as tables.

    robust-hls tables goliath_cifar10 --data-dir FOLDER_WITH_cifar10.npz   (some hours; continues where it stopped)
    python benchmarks/goliath.py [FOLDER] [--json OUT]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.common import Report, parser  # noqa: E402
from hw.experiment.settings import merge  # noqa: E402
from hw.report.headline import marks_of  # noqa: E402
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
    found = answers(results)
    report.details = {"defences": adaptive(results), "answers": found}
    for line in report.details["defences"]:
        print(_line(line))
    for title, records in found.items():
        if records:
            print("\n".join(["", f"### {title}", "", *markdown_lines(records_table(records))]))
    report.write(asked.json)
    return int(report.figures["mismatches"] > 0 or bool(missing))


def counted(results: Record) -> dict[str, tuple[float, str]]:
    """Key -> figure and what it counts."""
    asked = {row["label"]: merge({}, row["set"]) for row in results["config"]["rows"]}
    rows = {label: asked[label] for label in results["rows"]}
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


def defence_of(settings: Record) -> str | None:
    """The published defence of a row, from the settings in which it differs."""
    kind = settings.get("defence", {}).get("kind", "none")
    method = settings.get("training", {}).get("method", "standard")
    return kind if kind != "none" else None if method == "standard" else method


def precision_of(settings: Record) -> str:
    """int8 or int16, by the activations."""
    bits = settings.get("quantization", {}).get("activation_bits", 8)
    return f"int{bits}"


def answers(results: Record) -> dict[str, list[Record]]:
    """What the source's five statements can be held against, from the rows that are there.

    1 and 4: distance to the boundary by precision and by training. 2: examples carried from form to form, gradients,
    quantization shift by size. 3: defences before the network at a small and at a large ε. 5: accuracy by precision.
    """
    return {
        "distance to the boundary, medians": distances(results),
        "examples carried over": [
            {key: record[key] for key in ("made_on", "tried_on", "attack", "epsilon_lsb", "n")}
            | {"accuracy": f"{100 * record['accuracy']:.1f} {interval(record['ci95'])}"}
            for record in results["studies"].get("transfer", [])
        ],
        "gradients, float against quantized": [
            {"row": label} | (row["measures"].get("gradients") or {}) for label, row in results["rows"].items()
        ],
        "quantization shift by size": [
            {"row": label} | record
            for label, row in results["rows"].items()
            for record in row["measures"].get("quantization_shift_by_size") or []
        ],
        "accuracy under attack": accuracies(results),
    }


def distances(results: Record) -> list[Record]:
    """Of float, and of what each precision computes; the accelerator's are those of its model."""
    shown = ("images_fooled", "median_l0_values", "median_l1_lsb", "median_l2_lsb", "median_linf_lsb")
    return [
        {"row": label, "victim": record["victim"]} | {key: record[key] for key in shown}
        for label, row in results["rows"].items()
        for record in row["measures"].get("boundary_distance") or []
        if record["victim"] in ("float", "bitsim")
    ]


def accuracies(results: Record) -> list[Record]:
    """Every column with a bound, and the clean one, in per cent with 95 % intervals."""
    found: dict[tuple[str, str], Record] = {}
    for cell in results["cells"]:
        if cell["line"] == "quantized" or (cell["attack"] != "clean" and cell["epsilon_lsb"] is None):
            continue
        line = found.setdefault((cell["row"], cell["line"]), {"row": cell["row"], "victim": cell["line"]})
        name = cell["column"] if cell["table"] == "white-box" else f"{cell['column']}, black-box"
        ends = interval((cell["ci95_low"], cell["ci95_high"]))
        line[name] = f"{100 * cell['accuracy']:.0f} {ends}{marks_of(cell['flags'])}"
    return list(found.values())


def interval(ends: Sequence[float]) -> str:
    """In per cent."""
    return f"[{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"


def adaptive(results: Record) -> list[Record]:
    """What both attackers leave of every defended accelerator, beside the undefended one of its precision."""
    found = []
    for label, row in results["rows"].items():
        for record in row["measures"].get("defence") or []:
            if record["victim"] in ("float", "bitsim"):
                found.append({"row": label} | record)
    return found


def _line(record: Record) -> str:
    shown = {
        key: "–" if record.get(key) is None else f"{100 * record[key]:.1f}"
        for key in ("undefended", "unaware", "aware")
    }
    numbers = ", ".join(f"{key} {value}" for key, value in shown.items())
    return f"{record['row']:26s} {record['victim']:7s} ε {record['epsilon']:g} {record['norm']}: {numbers}"


if __name__ == "__main__":
    sys.exit(main())
