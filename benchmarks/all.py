"""Every benchmark, one after the other: what `make bench` runs.

    python benchmarks/all.py [--quick] [--only NAME ...] [--out FOLDER]

Each one's figures go to FOLDER/NAME.json (default: benchmarks/results), and `all.json` there says how long each took.
Exit status 1 if one failed; the others run all the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Report  # noqa: E402

NAMES = (
    *("bitsim", "bitsim_fuzz", "attacks", "training", "projects", "own_models", "sizing", "rtl", "certify"),
    *("hostile", "kills", "sanitize"),
)


def main() -> int:
    """Run them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer samples and repetitions")
    arguments.add_argument("--only", nargs="+", default=NAMES, choices=NAMES, metavar="NAME", help=" ".join(NAMES))
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = arguments.parse_args()
    report, failed = Report(), []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    for name in options.only:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(options.out / f"{name}.json")]
        status = subprocess.run([*command, *(["--quick"] if options.quick else [])], env=environment, check=False)
        seconds = time.monotonic() - started
        report.figure(f"{name}_seconds", seconds, f"exit status {status.returncode}")
        if status.returncode:
            failed.append(name)
    report.figure("minutes", sum(report.figures.values()) / 60, f"{len(options.only)} benchmarks")
    report.figure("failed", len(failed), ", ".join(failed))
    report.write(options.out / "all.json")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
