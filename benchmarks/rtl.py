"""RTL by open tools: bits in Verilator, gates from Yosys, and how far our estimate is from them.

gates: trained designs on inputs that fool them. synthesis: the same in Yosys. cnn: too large to unroll. netlist: what
Yosys made, simulated. broken: one bit changed. attack: Verilator is asked. luts: estimates against Yosys. storage: what
a way of rounding costs. Seconds are of processors: other work on the machine moves them less.

    python benchmarks/rtl.py [--quick] [--only PART ...] [--keep FOLDER] [--json OUT]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import rtl_gate, rtl_luts  # noqa: E402
from benchmarks.common import Report, parser  # noqa: E402
from benchmarks.rtl_designs import Watch  # noqa: E402

PARTS: dict[str, Callable[[Report, bool, Path], None]] = {**rtl_gate.PARTS, **rtl_luts.PARTS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen parts; 1 when a bit differs where none may, or a changed bit is not found."""
    options = parser(__doc__, PARTS)
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="trained models stay here, for another time")
    chosen = options.parse_args(arguments)
    report, watch = Report(), Watch()
    with tempfile.TemporaryDirectory(prefix="rtl-bench-") as scratch:
        os.environ["ROBUST_HLS_CACHE"] = f"{scratch}/cache"  # everything is compiled here and now
        for part in chosen.only:
            print(f"{part}:", flush=True)
            PARTS[part](report, chosen.quick, chosen.keep or Path(scratch) / "runs")
            report.details.setdefault("processor_seconds", {})[part] = watch.read()
            _write(report, chosen.json, among_others=len(chosen.only) < len(PARTS))
    print("processor seconds:", report.details["processor_seconds"])
    return int(not _holds(report))


def _write(report: Report, path: Path | None, among_others: bool) -> None:
    """The JSON; where only some parts were asked for, what it holds of others stays."""
    told = replace(report)
    if path is not None and path.is_file() and among_others:
        before = json.loads(path.read_text())
        seconds = before["details"]["processor_seconds"] | report.details["processor_seconds"]
        told.figures, told.notes = before["figures"] | report.figures, before["notes"] | report.notes
        told.details = before["details"] | report.details | {"processor_seconds": seconds}
    told.write(path)


def _holds(report: Report) -> bool:
    """Whether no output differs, and every changed bit was found."""
    differing = sum(value for key, value in report.figures.items() if key.endswith("mismatches"))
    missed = report.details.get("broken", {"missed": 0})["missed"]
    return differing == 0 and missed == 0


if __name__ == "__main__":
    sys.exit(main())
