"""The tables of docs/rtl.md, from what benchmarks/rtl.py wrote: header, alignment, rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Table = tuple[Sequence[str], str, list[list[str]]]


def bits(details: dict[str, Any]) -> Table:
    """Which design was shown what, and how many outputs differed."""
    rows = []
    for row in details["gates"]:
        differing, seconds = row["differing"], row["processor_seconds"]
        told = ", ".join(f"{name} {count}" for name, count in differing.items())
        cells = [f"{row[key]:,}" for key in ("adders", "inputs", "adversarial")]
        built = f"{seconds['generate']:.0f} + {seconds['verilator_and_gxx']:.0f}"
        rows.append([row["design"], *cells, told, built])
    cnn = details["cnn"]
    cells = [f"{cnn[key]:,}" for key in ("adders", "inputs", "adversarial")]
    told = f"alkaid {cnn['differing_interpreted']}"
    rows.append([f"{cnn['design']}, unrolled", *cells, told, f"{cnn['trace_seconds']:.0f}"])
    layers = sum(layer["adders"] for layer in cnn["layers"])
    seconds, told = cnn["verilator_and_gxx_seconds"], f"verilator {cnn['differing_by_layer']}"
    rows.append(["the same, layer by layer", f"{layers:,}", *cells[1:], told, f"{seconds:.0f}"])
    header = [
        "design",
        "adders",
        "inputs",
        "fool it",
        "outputs that differ from bitsim's",
        "built in s",
    ]
    return header, "lrrrlr", rows


def gates(details: dict[str, Any]) -> Table:
    """What Yosys counts of the trained designs, and the estimates."""
    rows = []
    for row in details["synthesis"]:
        counts = [f"{row[key]:,}" for key in ("luts", "flip_flops", "carries", "dsps", "brams", "levels")]
        errors = [f"{row[key] / row['luts'] - 1:+.0%}" for key in ("luts_estimated", "rtl_luts_estimated")]
        rows.append([row["design"], *counts, *errors, f"{row['yosys_seconds']:.0f}"])
    header = ["design", "LUT", "FF", "CARRY4", "DSP", "BRAM", "levels", "before", "after", "Yosys, seconds"]
    return header, "lrrrrrrrrr", rows


def luts(details: dict[str, Any]) -> Table:
    """Estimates against Yosys, design by design."""
    networks = list(dict.fromkeys(row["network"] for row in details["designs"]))
    found = {(row["network"], row["bits"]): row for row in details["designs"]}
    rows = []
    for width in sorted({row["bits"] for row in details["designs"]}):
        cells = [str(width)]
        for network in networks:
            row = found[network, width]
            cells += [f"{row['luts']:,}", f"{row['before']:+.0%}", f"{row['after']:+.0%}"]
        rows.append(cells)
    header = ["bits", *(cell for network in networks for cell in (f"{network}: LUT", "before", "after"))]
    return header, "r" * len(header), rows


def storage(details: dict[str, Any]) -> Table:
    """Three bits a weight, rounded in several ways."""
    rows = []
    for name, row in details["storage"]["rows"].items():
        counts = [f"{row[key]:,}" for key in ("luts", "flip_flops", "levels", "adder_bits")]
        rows.append([name, *counts, *(f"{row[key]:.1%}" for key in ("clean", "pgd", "worst_case"))])
    header = ["weights, 3 bits", "LUT", "FF", "levels", "adder bits", "clean", "PGD-20, 8 LSB", "worst case, 8 LSB"]
    return header, "lrrrrrrr", rows


TABLES = {"bits": bits, "gates": gates, "luts": luts, "storage": storage}
