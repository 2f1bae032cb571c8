"""Six published defences on digits, each scored against an attacker who does not know it and one who does.

Every case is a run of configs/digits_defences.yaml with another defence: trained, rounded, generated, simulated bit for
bit, attacked. A gain stays where the aware worst case is higher than the undefended one by more than chance.

    python benchmarks/defences.py [--quick] [--json OUT] [--only CASE ...] [--out FOLDER]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.common import Report, parser  # noqa: E402
from hw.experiment.open import open_run  # noqa: E402
from hw.experiment.pipeline import run_steps  # noqa: E402
from hw.experiment.preflight import check_run  # noqa: E402
from hw.report.step import FLOW  # noqa: E402
from qmodels.statistics import unpaired_p_value  # noqa: E402

Settings = dict[str, Any]
CONFIG = ROOT / "configs" / "digits_defences.yaml"
EPSILON = 16
_ADVERSARIAL = {"epsilon_lsb": EPSILON, "steps": 5, "validation_steps": 5, "validation_samples": 100}
_SLOW_PURIFICATION = {"evaluation.samples": 60, "defence.pixeldefend": {"reach": 3, "hidden": 48, "steps": 1500}}


def _training(method: str, **more: Any) -> Settings:
    training = {"method": method, "epochs": 20} | more
    return {"defence.kind": "none", "training": training}


#: Name -> what differs from the config. `none` is what the others are held against.
CASES: dict[str, Settings] = {
    "none": {"defence.kind": "none"},
    "adversarial": _training("adversarial", adversarial=_ADVERSARIAL),
    "ensemble": _training("ensemble", adversarial=_ADVERSARIAL, ensemble={"epochs": 10}),
    "sinkhorn": _training("sinkhorn", adversarial=_ADVERSARIAL, sinkhorn={"weight": 0.1}),
    "distillation": _training("distillation", epochs=40, learning_rate=0.01),
    "squeezing": {"defence.squeezing": {"bits": 2, "window": None, "role": "filter"}},
    "detector": {"defence.squeezing": {"bits": 3, "window": None, "role": "detector"}},
    "pixeldefend": {"defence.kind": "pixeldefend", **_SLOW_PURIFICATION},
}


def main() -> int:
    """Run the cases and hold them against each other; 1 where a simulator disagreed."""
    arguments = parser(__doc__, CASES)
    arguments.add_argument("--out", type=Path, help="where the runs are kept, and resumed; default: nowhere")
    asked = arguments.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        records = {case: _case(case, folder / case, asked.quick) for case in asked.only}
    undefended = records.get("none", {}).get("aware")
    print(f"\nL∞ {EPSILON} LSB, worst case over all attacks of the int8 accelerator, %")
    for case, record in records.items():
        print(_line(case, record, undefended))
    mismatches = sum(record["mismatched_outputs"] for record in records.values())
    report.figure("defences", len(set(records) - {"none"}))
    report.figure("mismatches", mismatches, f"outputs over {sum(r['inputs'] for r in records.values())} inputs")
    for case, record in records.items():
        for attacker in ("unaware", "aware"):
            if record[attacker] is not None:
                report.figure(f"{case}_{attacker}", record[attacker], f"n = {record[f'{attacker}_n']}")
    report.details = records
    report.write(asked.json)
    return int(mismatches > 0)


def _case(case: str, folder: Path, quick: bool) -> dict[str, Any]:
    """One run, from the config to its record of the accelerator in the ball of `EPSILON`."""
    settings = {"name": case, **({"evaluation.samples": 100} if quick else {}), **CASES[case]}
    run = open_run(CONFIG, settings, out=folder, resume=True)
    check_run(run, FLOW)
    with run.folder.lock():
        run_steps(run, FLOW, lambda line: print(f"{case}: {line}", flush=True))
    return accelerator_record(json.loads((folder / "results.json").read_text()), EPSILON)


def accelerator_record(results: dict[str, Any], epsilon: float) -> dict[str, Any]:
    """What the two attackers leave of a run's accelerator; undefended, its worst case."""
    gate = {key: results["exactness"][key] for key in ("inputs", "adversarial_inputs", "mismatched_outputs")}
    for record in results["measures"].get("defence", ()):
        if (record["victim"], record["norm"], record["epsilon"]) == ("bitsim", "linf", epsilon):
            return record | gate
    worst = next(r for r in results["worst_case"] if (r["victim"], r["epsilon_lsb"]) == ("bitsim", epsilon))
    clean = next(r for r in results["rows"] if (r["victim"], r["attack"]) == ("bitsim", "clean"))
    shares = {"clean": clean["accuracy"], "aware": worst["accuracy"], "aware_n": worst["n"]}
    return {**shares, "unaware": None, "unaware_n": None, "undefended": None, **gate}


def _line(case: str, record: dict[str, Any], undefended: float | None) -> str:
    beside = undefended if record["undefended"] is None else record["undefended"]

    def shown(key: str) -> str:
        if record.get(key) is None:
            return f"{key} –"
        low, high = record.get(f"{key}_ci95") or (None, None)
        return f"{key} {100 * record[key]:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None else "")

    stays = ""
    if beside is not None and case != "none":
        n = record["aware_n"]
        gains = {who: record[who] is not None and unpaired_p_value(beside, record[who], n, n) < 0.01
                 for who in ("unaware", "aware")}  # fmt: skip
        stays = "stays" if gains["aware"] else "disappears" if gains["unaware"] else "no gain"
        stays = record.get("verdict") or stays  # of one run: paired, image by image
    against = "–" if beside is None else f"{100 * beside:.1f}"
    numbers = f"clean {100 * record['clean']:.1f}, undefended {against}, {shown('unaware')}, {shown('aware')}"
    return f"{case:13s} {numbers}: {stays}"


if __name__ == "__main__":
    sys.exit(main())
