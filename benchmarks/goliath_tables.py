"""Tables of docs/results/goliath, from a finished results.json: what the source's five statements are held against.

1 and 4: `distances`, by precision and by training. 2: `transfer`, `gradients`, `shift`. 3: `defences`, at a small and
at a large epsilon. 5: `accuracy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hw.experiment.settings import merge
from hw.report.headline import marks_of
from hw.report.source import NORMS

Record = dict[str, Any]


def accuracy(results: Record) -> list[Record]:
    """Every column, of float and of the accelerator, in per cent with flags; a dash where it concerns no such row."""
    columns = {"Clean": "Clean"} | {
        f"{column['title']} {column['table']}": column["title"] + _apart(column["table"])
        for column in results["config"]["columns"]
    }
    found: dict[tuple[str, str], Record] = {}
    for cell in results["cells"]:
        if cell["line"] != "quantized":
            line = found.setdefault((cell["row"], cell["line"]), _line(cell) | dict.fromkeys(columns.values(), "–"))
            line[cell["column"] + _apart(cell["table"])] = (
                f"{100 * cell['accuracy']:.0f} {marks_of(cell['flags'])}".strip()
            )
    return list(found.values())


def _line(cell: Record) -> Record:
    return {"row": cell["row"], "form": "float32" if cell["line"] == "float" else cell["line"], "n": cell["n"]}


def _apart(table: str) -> str:
    return "" if table == "white-box" else ", black-box"


def defences(results: Record) -> list[Record]:
    """The worst case that each attacker leaves, in every ball in which both were measured; undefended beside it."""
    settings = settings_of(results)
    plain = {
        (precision_of(settings[label]), entry["victim"], entry["norm"], entry["epsilon"]): entry
        for label, row in results["rows"].items()
        if defence_of(settings[label]) is None
        for entry in _worst_cases(results, label, row)
    }
    found = []
    for label, row in results["rows"].items():
        for record in row["measures"].get("defence") or []:
            if record["victim"] == "quantized" or record.get("unaware") is None:
                continue
            victim = "float" if record["victim"] == "float" else "accelerator"
            beside = plain.get((precision_of(settings[label]), victim, record["norm"], record["epsilon"]))
            undefended = "–" if beside is None else share(beside["accuracy"], beside["ci95"])
            if record.get("undefended") is not None:  # the same images, the same network
                undefended = share(record["undefended"], record["undefended_ci95"])
            found.append({
                "row": label,
                "form": "float32" if victim == "float" else victim,
                "ball": f"{NORMS[record['norm']]} {record['epsilon']:g}",
                "clean": f"{100 * record['clean']:.0f}",
                "undefended": undefended,
                "unaware": share(record["unaware"], record["unaware_ci95"]),
                "aware": share(record["aware"], record["aware_ci95"]),
            })  # fmt: skip
    return found


def _worst_cases(results: Record, label: str, row: Record) -> list[Record]:
    """The lowest cell of a row in each ball."""
    lowest: dict[tuple[str, str, float], Record] = {}
    for cell in results["cells"]:
        if cell["row"] != label or cell["epsilon_lsb"] is None or cell["line"] == "quantized":
            continue
        key = cell["line"], cell["norm"], cell["epsilon_lsb"]
        if key not in lowest or cell["accuracy"] < lowest[key]["accuracy"]:
            lowest[key] = cell
    return [
        {"victim": line, "norm": norm, "epsilon": epsilon, "accuracy": cell["accuracy"],
         "ci95": (cell["ci95_low"], cell["ci95_high"])}
        for (line, norm, epsilon), cell in lowest.items()
    ]  # fmt: skip


def distances(results: Record) -> list[Record]:
    """Medians of the nearest example of any attack; the accelerator's are those of its model."""
    shown = {"images_fooled": "fooled", "median_l0_values": "L0", "median_l1_lsb": "L1, LSB",
             "median_l2_lsb": "L2, LSB", "median_linf_lsb": "L∞, LSB"}  # fmt: skip
    return [
        {"row": label + (", defended" if "+" in record["model"] else ""),
         "form": "float32" if record["victim"] == "float" else "accelerator"}
        | {name: record[key] for key, name in shown.items()}
        for label, row in results["rows"].items()
        for record in row["measures"].get("boundary_distance") or []
        if record["victim"] in ("float", "bitsim")
    ]  # fmt: skip


def transfer(results: Record) -> list[Record]:
    """A line a form that examples were made on, a column a form that they were tried on."""
    records = results["studies"].get("transfer", [])
    lines: dict[str, Record] = {}
    for record in records:
        line = lines.setdefault(record["made_on"], {"made on": record["made_on"]})
        line[record["tried_on"]] = share(record["accuracy"], record["ci95"])
    return list(lines.values())


def gradients(results: Record) -> list[Record]:
    """The float network's gradients beside the straight-through ones."""
    return [
        {
            "row": label,
            "cosine": part["mean_cosine"],
            "equal signs": part["mean_sign_agreement"],
            "zero, float32": part["float_zero_gradient_share"],
            "zero, quantized": part["quantized_zero_gradient_share"],
        }
        for label, row in results["rows"].items()
        if (part := row["measures"].get("gradients"))
    ]


def shift(results: Record) -> list[Record]:
    """Quantization shift, mean over layers, by the size of the change."""
    return [
        {"row": label} | {part["change"]: f"{part['mean_ratio']:.3f}" for part in parts}
        for label, row in results["rows"].items()
        if (parts := row["measures"].get("quantization_shift_by_size"))
    ]


def settings_of(results: Record) -> dict[str, Record]:
    """Label -> in which settings a finished row differs, as sections."""
    asked = {row["label"]: merge({}, row["set"]) for row in results["config"]["rows"]}
    return {label: asked[label] for label in results["rows"]}


def defence_of(settings: Record) -> str | None:
    """The published defence of a row, from the settings in which it differs."""
    kind = settings.get("defence", {}).get("kind", "none")
    method = settings.get("training", {}).get("method", "standard")
    return kind if kind != "none" else None if method == "standard" else method


def precision_of(settings: Record) -> str:
    """int8 or int16, by the activations."""
    bits = settings.get("quantization", {}).get("activation_bits", 8)
    return f"int{bits}"


def share(accuracy: float, ends: Sequence[float]) -> str:
    """In per cent, with its 95 % interval."""
    return f"{100 * accuracy:.0f} [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"


TABLES: dict[str, Callable[[Record], list[Record]]] = {
    "accuracy": accuracy,
    "defences": defences,
    "distances": distances,
    "transfer": transfer,
    "gradients": gradients,
    "shift": shift,
}
