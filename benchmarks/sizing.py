"""Sizing: designs an hour, what the pool and bitsim save, what kill -9 costs, what more workers give.

Figures: designs_per_hour, designs_per_processor_hour, pool_vs_full, same_recommendations, cost_differs,
mnist_designs_per_hour, digits_points, digits_seconds, screening_vs_full, bitsim_vs_csim, kills, lost, duplicated,
workers2_speedup.
Ratios and rates of processor time do not mind a busy machine; wall clock and speed-ups do.
With `--folder` a part that was stopped goes on there: its sessions' times are added up.

    python benchmarks/sizing.py [--quick] [--only pool cost layers mnist digits csim kills workers] [--json OUT]
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.common import Report, parser  # noqa: E402
from hw.sizing.config import SizingConfig, load_sizing  # noqa: E402
from hw.sizing.crew import processor_seconds  # noqa: E402
from hw.sizing.questions import Question, Standing  # noqa: E402
from hw.sizing.space import DesignPoint, grid, make_design  # noqa: E402
from hw.sizing.steps import worst_case_steps  # noqa: E402
from hw.sizing.store import Store  # noqa: E402

DIGITS = ROOT / "configs" / "sizing_digits.yaml"
LAYERS = ROOT / "configs" / "sizing_digits_layers.yaml"
MNIST = ROOT / "configs" / "sizing_mnist_layers.yaml"
SAMPLE = 4  # designs that are measured for an extrapolation
CSIM_IMAGES = 12
SLOW = "--quick"


def command(config: Path, out: Path, *options: str) -> list[str]:
    """`robust-hls size` of this checkout."""
    return [sys.executable, "-m", "hw.cli", "size", str(config), "--out", str(out), *options]


def environment() -> dict[str, str]:
    """With this checkout first."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def timed(config: Path, out: Path, *options: str) -> float:
    """Seconds of one sizing, noted beside its folder."""
    started, before = time.perf_counter(), child_seconds()
    try:
        subprocess.run(
            command(config, out, *options), env=environment(), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
    finally:
        seconds = time.perf_counter() - started
        session = {"wall": seconds, "processor": child_seconds() - before, "load": os.getloadavg()[0]}
        notes = sessions(out)
        notes.append(session)
        sessions_file(out).write_text(json.dumps(notes))
    return seconds


def child_seconds() -> float:
    """Processor time of all finished children and theirs: workers are among them."""
    return sum(os.times()[2:4])


def sessions_file(out: Path) -> Path:
    """Where a sizing's times are noted."""
    return out.parent / f"{out.name}.sessions.json"


def sessions(out: Path) -> list[dict[str, float]]:
    """The sessions of a sizing so far: seconds of wall clock and of processor time, the load at their end."""
    found: list[dict[str, float]] = json.loads(sessions_file(out).read_text()) if sessions_file(out).exists() else []
    return found


def small_config(folder: Path, bits: list[int], mu: list[int]) -> Path:
    """A sizing of digits with little training and no C simulation to speak of."""
    plain = yaml.safe_load(DIGITS.read_text())
    plain["experiment"] = str(ROOT / "configs" / "digits.yaml")
    plain["fixed"] |= {"training.epochs": 3, "training.method": "standard", "simulation.verify_samples": 10}
    plain["space"] = {"mapping.mu": mu, "quantization.weight_bits": bits}
    plain["worst_case"] |= {"images": 100}
    plain["screening"] = {"round": 4}
    plain["final"] = {"images": 50, "designs": 1}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def digits(report: Report, folder: Path, quick: bool) -> None:
    """The whole digits sizing, and what the worst case on every design would have taken."""
    out = folder / "digits"
    if quick:
        report.leave_out("digits_seconds", SLOW)
        return
    timed(DIGITS, out)
    seconds = sum(session["wall"] for session in sessions(out))
    found = sizing_json(out)
    report.figure("digits_points", sum(d["measure"] is not None for d in found["designs"]), "designs built and scored")
    report.figure("digits_seconds", seconds, "wall clock, training and csim gate of the chosen designs included")
    report.details["digits_stages"] = found["stages"]
    spent = {stage["stage"]: stage["processor_seconds"] for stage in found["stages"]}
    aside = [d for d in found["designs"] if d["measure"] and not d["worst"]]
    chosen = random.Random(0).sample(aside, min(SAMPLE, len(aside)))
    if not chosen:
        report.leave_out("screening_vs_full", "nothing was set aside")
        return
    each = mean(stage_seconds(out, design, {})["attack"] for design in chosen)
    searched = search_seconds(found)
    full = spent.get("measure", 0.0) + spent.get("attack", 0.0) + each * len(aside)
    note = f"processor time; {len(aside)} designs were spared, {len(chosen)} of them measured: {each:.1f} s each"
    report.figure("screening_vs_full", full / searched, note)


def sizing_json(out: Path) -> dict[str, Any]:
    """What a sizing has written."""
    found: dict[str, Any] = json.loads((out / "sizing.json").read_text())
    return found


def search_seconds(found: dict[str, Any]) -> float:
    """Processor seconds of building, trying and attacking; training and test images left out."""
    wanted = ("measure", "certify", "pool", "attack")
    return float(sum(stage["processor_seconds"] for stage in found["stages"] if stage["stage"] in wanted))


def layers_config(folder: Path, few: bool = False) -> Path:
    """Bits of every layer of one digits network, weaker attacks (120 images, half the steps): 1,296 designs, or 32."""
    plain = yaml.safe_load(LAYERS.read_text())
    plain["experiment"] = str(ROOT / "configs" / "digits.yaml")
    plain["fixed"] |= {"training.method": "standard", "training.epochs": 8, "mapping.mu": 0}
    plain["fixed"]["simulation.verify_samples"] = 10
    wide = [2, 4] if few else [2, 3, 4]
    plain["space"] = {f"quantization.layers.{name}.weight_bits": wide for name in ("conv1", "conv2")}
    plain["space"] |= {"quantization.layers.fc1.weight_bits": [2, 4] if few else [2, 3, 4, 6]}
    plain["space"] |= {"quantization.layers.logits.weight_bits": wide}
    relus = ("fc1_relu",) if few else ("conv1_relu", "conv2_relu", "fc1_relu")
    plain["space"] |= {f"quantization.layers.{name}.activation_bits": [4, 6] for name in relus}
    if not few:
        plain["space"]["quantization.layers.fc1_relu.activation_bits"] = [3, 4, 6]
    plain["worst_case"]["images"] = 120
    attacks = [{"kind": kind, "steps": 50} for kind in ("apgd-ce", "apgd-dlr", "apgd-t")]
    plain["worst_case"]["attack"]["attacks"] = [*attacks, {"kind": "square", "queries": 500}]
    plain["final"] = {"images": 50, "designs": 1}
    path = folder / ("few_layers.yaml" if few else "layers.yaml")
    path.write_text(yaml.safe_dump(plain))
    return path


def pool(report: Report, folder: Path, quick: bool) -> None:
    """The same space with the pool, and with the worst case on every design."""
    config, runs = layers_config(folder, few=quick), {}
    for name, off in (("pool", "false"), ("full", "true")):
        timed(config, folder / name, "--set", f"screening.off={off}", *(["--workers", "1"] if quick else []))
        runs[name] = sizing_json(folder / name)
    seconds = {name: search_seconds(found) for name, found in runs.items()}
    report.details["pool"] = {
        "seconds": seconds,
        "decided": {name: found["decided"] for name, found in runs.items()},
        "stages": {name: found["stages"] for name, found in runs.items()},
    }
    if not quick:
        count = len(runs["pool"]["designs"])
        note = f"processor time of {count} designs, both ways run: {seconds['full']:.0f} s, {seconds['pool']:.0f} s"
        report.figure("pool_vs_full", seconds["full"] / seconds["pool"], note)
    named = {name: [(sorted(item["why"]), key_of(found, item)) for item in found["recommended"]]
             for name, found in runs.items()}  # fmt: skip
    told = f"{len(named['full'])} designs of {len(runs['full']['designs'])}, both ways run"
    report.figure("same_recommendations", int(named["pool"] == named["full"]), told)


def key_of(found: dict[str, Any], item: dict[str, Any]) -> str:
    """The key of a recommended design."""
    return next(str(design["key"]) for design in found["designs"] if design["design"] == item["design"])


def cost(report: Report, folder: Path, quick: bool) -> None:
    """Designs that were swapped into a graph, against a conversion of each."""
    from hw.experiment.run import load_run_data as load_data
    from hw.sizing.built import build, build_converted
    from hw.sizing.structures import Structures

    config, experiment, files, name = trained(folder, quick)
    wanted, structures, differing = 4 if quick else 24, Structures(), 0
    settings = list(grid(config.space))
    data = load_data(make_design(experiment, "experiment", settings[0]).config)
    x = data.validation.take(config.worst_case.images).x
    for chosen in random.Random(2).sample(settings, wanted):
        design = make_design(experiment, "experiment", chosen).config
        swapped = build(design, name, data, files, x, structures)
        converted = build_converted(design, data, files, x)
        assert swapped.quantized_logits is None, "this design was converted, not swapped"
        same = (swapped.accelerator.logits(x) == converted.accelerator.logits(x)).all()
        differing += swapped.cost != converted.cost or swapped.bits != converted.bits or not same
    report.figure("cost_differs", differing, f"of {wanted} designs: cost, stored bits, or a bit of {len(x)} outputs")


def trained(folder: Path, quick: bool) -> tuple[SizingConfig, str, dict[str, bytes], str]:
    """Config and experiment of the `pool` part, its training's files and their name."""
    out = folder / "pool"
    if not (out / "sizing.json").exists():
        timed(layers_config(folder, few=quick), out)
    training = sizing_json(out)["designs"][0]["training"]
    files = {path.name: path.read_bytes() for path in (out / "trainings" / training).glob("*.*")}
    return load_sizing(out / "sizing.yaml"), (out / "experiment.yaml").read_text(), files, training


def layers(report: Report, folder: Path, quick: bool) -> None:
    """All of configs/sizing_digits_layers.yaml, from training to report; quick: 1,296 designs, weaker attacks."""
    out = folder / ("layers" if quick else "all_layers")
    timed(layers_config(folder) if quick else LAYERS, out)
    found = sizing_json(out)
    count, spent, own = len(found["designs"]), search_seconds(found), sessions(out)
    wall, processor = (sum(session[name] for session in own) for name in ("wall", "processor"))
    report.details["layers"] = {"stages": found["stages"], "decided": found["decided"], "sessions": own}
    load = max(session["load"] for session in own)
    note = f"{count} designs in {wall:.0f} s of wall clock, all included, load {load:.0f}"
    report.figure("designs_per_hour", 3600 * count / wall, note)
    note = f"{processor:.0f} s of processor time, all included; {1000 * spent / count:.0f} ms a design for the search"
    report.figure("designs_per_processor_hour", 3600 * count / processor, note)
    if quick:
        done = [design for design in found["designs"] if design["worst"]]
        attacks = next(stage for stage in found["stages"] if stage["stage"] == "attack")["processor_seconds"]
        whole = next(item for item in found["decided"] if item["by"] == "the whole worst case")
        full = spent - attacks + count * whole["seconds"] / whole["designs"]
        note = f"estimated from the {len(done)} of {count} designs that had the whole worst case"
        report.figure("pool_vs_full", full / spent, note)


def mnist(report: Report, folder: Path, quick: bool) -> None:
    """All of configs/sizing_mnist_layers.yaml; the training is left out of the rate."""
    data, out = os.environ.get("ROBUST_HLS_DATA"), folder / "mnist"
    if quick or data is None:
        report.leave_out("mnist_designs_per_hour", SLOW if quick else "ROBUST_HLS_DATA names no folder with mnist.npz")
        return
    timed(MNIST, out, "--data-dir", data)
    found, own = sizing_json(out), sessions(out)
    count, wall = len(found["designs"]), sum(session["wall"] for session in own)
    trained = sum(stage["processor_seconds"] for stage in found["stages"] if stage["stage"] == "train")
    report.details["mnist"] = {"stages": found["stages"], "decided": found["decided"], "sessions": own}
    load = max(session["load"] for session in own)
    note = f"{count} designs in {wall / 60:.0f} min of wall clock, {trained / 60:.0f} of them training, load {load:.0f}"
    report.figure("mnist_designs_per_hour", 3600 * count / (wall - trained), note)


def csim(report: Report, folder: Path, quick: bool) -> None:
    """The same designs with csim as the engine: set-up measured, attacks measured on few images and scaled."""
    if quick:
        report.leave_out("bitsim_vs_csim", SLOW)
        return
    out = folder / "digits"
    if not (out / "sizing.json").exists():
        digits(report, folder, quick)
    found = sizing_json(out)
    scored = [design for design in found["designs"] if design["worst"]]
    design = random.Random(1).choice(scored)
    config = load_sizing(out / "sizing.yaml")
    fast = stage_seconds(out, design, {})
    slow = stage_seconds(out, design, {"simulation.engine": "csim"}, images=CSIM_IMAGES)
    scale = config.worst_case.images / CSIM_IMAGES
    total = {"bitsim": sum(fast.values()), "csim": slow["measure"] + slow["attack"] * scale}
    report.details["engines"] = {"bitsim": fast, "csim": slow, "csim_images": CSIM_IMAGES, "scaled": total}
    note = f"one design, worst case included: {total['bitsim']:.1f} s against {total['csim']:.0f} s (extrapolated)"
    report.figure("bitsim_vs_csim", total["csim"] / total["bitsim"], note)


def stage_seconds(
    out: Path, found: dict[str, Any], changes: dict[str, Any], images: int | None = None
) -> dict[str, float]:
    """Processor seconds of the stages of one design that a sizing has trained, in this process, warmed up."""
    from hw.experiment.run import load_run_data as load_data
    from hw.sizing.stages import STAGES

    config = load_sizing(out / "sizing.yaml")
    design = make_design((out / "experiment.yaml").read_text(), "experiment", found["settings"] | changes)
    files = {path.name: path.read_bytes() for path in (out / "trainings" / found["training"]).glob("*.*")}
    blobs = {"data": load_data(design.config), "training": files}
    worst = config.worst_case
    if images is not None:
        worst = worst.model_copy(update={"images": images})

    def ask(design: DesignPoint, key: str) -> dict[str, float]:
        question = Question(design.config, key, "data", "training", worst, config.final, config.layerwise)
        started = processor_seconds()
        fallen = STAGES["measure"](question, blobs)["fallen"]
        measured = processor_seconds()
        for step in range(len(worst_case_steps(worst.attack))):
            fallen = STAGES["attack"](replace(question, standing=Standing(fallen, step)), blobs)["fallen"]
        return {"measure": measured - started, "attack": processor_seconds() - measured}

    warm = make_design((out / "experiment.yaml").read_text(), "experiment", found["settings"])
    ask(warm, f"warm {found['key']} {images}")  # traces, as a worker has them after its first designs
    return ask(design, f"timed {design.key} {images} {time.perf_counter()}")


def kills(report: Report, folder: Path, quick: bool) -> None:
    """kill -9 at random moments; the store must end as that of an undisturbed run, with nothing computed twice."""
    config, wanted = small_config(folder, [2, 3, 4, 6], [0, 7]), 1 if quick else 10
    out = folder / "disturbed"
    whole = timed(config, folder / "undisturbed", "--workers", "1")
    start = timed(config, folder / "undisturbed", "--workers", "1")  # all is there: what starting takes
    rng, killed = random.Random(0), 0
    while killed < wanted:
        process = subprocess.Popen(
            command(config, out, "--workers", "1"), env=environment(), cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(0.7 * start + rng.uniform(0, min(2 / wanted, 0.8)) * (whole - start))
            break  # it got to the end
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    timed(config, out, "--workers", "1")
    expected, found = (store_content(folder / name) for name in ("undisturbed", "disturbed"))
    report.figure("kills", killed, f"at random moments of a run of {whole:.0f} s")
    report.figure(
        "lost", sum(found.get(key) != value for key, value in expected.items()), f"of {len(expected)} results"
    )
    report.figure("duplicated", twice(out) + len(found.keys() - expected.keys()), "results computed twice, or unasked")


def store_content(folder: Path) -> dict[str, Any]:
    """Every result; training reports hold times of day and of work, so their names only."""
    store = Store(folder / "store.sqlite")
    try:
        return {record.key: (record.stage, record.error, record.value) for record in store.records()}
    finally:
        store.close()


def twice(folder: Path) -> int:
    """Computations beyond one a question."""
    store = Store(folder / "store.sqlite")
    try:
        return store.computed_twice()
    finally:
        store.close()


def workers(report: Report, folder: Path, quick: bool) -> None:
    """One and two local processes, the same results."""
    if quick:
        report.leave_out("workers2_speedup", SLOW)
        return
    config = small_config(folder, [2, 3, 4, 5, 6, 8], [0, 7, 63])
    seconds = {count: timed(config, folder / f"workers{count}", "--workers", str(count)) for count in (1, 2)}
    same = store_content(folder / "workers1") == store_content(folder / "workers2")
    report.details["workers"] = {"seconds": seconds, "same_results": same}
    report.figure("workers2_speedup", seconds[1] / seconds[2], f"{seconds[1]:.0f} s, {seconds[2]:.0f} s; same: {same}")


PARTS: dict[str, Callable[[Report, Path, bool], None]] = {
    "pool": pool,
    "cost": cost,
    "layers": layers,
    "mnist": mnist,
    "digits": digits,
    "csim": csim,
    "kills": kills,
    "workers": workers,
}


def main() -> None:
    """Measure the chosen parts."""
    arguments = parser(__doc__, PARTS)
    arguments.add_argument("--folder", type=Path, help="work here and keep it; default: a temporary folder")
    options = arguments.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="sizing-benchmark-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in options.only:
            PARTS[part](report, folder, options.quick)
    report.write(options.json)


if __name__ == "__main__":
    main()
