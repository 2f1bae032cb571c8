"""Bits, for benchmarks/rtl.py: Verilog, netlists and single layers against bitsim and csim, adversarial inputs too."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Report
from benchmarks.rtl_designs import Trained, Watch, make, random_codes, trained
from hw.experiment.scoring import distinct
from hw.rtl import RtlConfig
from hw.rtl.verilog import Design
from hw.simulate.bitsim.program import Linear, Network
from hw.simulate.exactness import Known, require_exact
from qmodels.attacks import HopSkipJumpLinf
from qmodels.errors import ExactnessError
from qmodels.grid import Codes
from qmodels.victims import Victim, predictions

#: What every trained design is shown, and how many of it fool that design.
INPUTS, ADVERSARIAL = 10_000, 5_000
MLP, CNN = "digits MLP 64-24-10, 3 bits", "digits CNN of the demo, 3 bits"
DENSE = (MLP, "tabular demo 30-32-16, 4 bits", "jet tagger's kind 16-64-32-32-5, 6 bits")


def _shown(design: Trained) -> tuple[Codes, dict[str, Any]]:
    """What a design is shown, and how much of it is what."""
    by_attack = design.adversarial(ADVERSARIAL)
    adversarial = distinct(np.concatenate(list(by_attack.values())))
    x = design.inputs(adversarial, INPUTS)
    counts = {kind: len(examples) for kind, examples in by_attack.items()}
    return x, {"design": design.name, "inputs": len(x), "adversarial": len(adversarial), "by_attack": counts}


def gates(report: Report, quick: bool, folder: Path) -> None:
    """Trained dense designs: Verilator, alkaid's interpreter and csim against bitsim on every input."""
    rows = []
    for name in DENSE[: 1 if quick else None]:
        rows.append(_gate(trained(name, folder)))
        print(f"  {rows[-1]}", flush=True)
    report.details["gates"] = rows
    exact = sum(not any(row["differing"].values()) for row in rows)
    report.figure("designs_exact", exact, f"of {len(rows)}; inputs: " + ", ".join(f"{row['inputs']:,}" for row in rows))
    fewest = min(row["adversarial"] for row in rows)
    report.figure("adversarial_inputs", fewest, "distinct ones that fool the design they are shown to; the fewest")
    report.figure("rtl_mismatches", sum(sum(row["differing"].values()) for row in rows), "outputs, of any simulator")


def _gate(design: Trained) -> dict[str, Any]:
    x, row = _shown(design)
    accelerator, watch = design.accelerator, Watch()
    rtl, expected = accelerator.rtl(), accelerator.bitsim.logits(x)
    row |= {"adders": rtl.adders, "operations": rtl.design.operations, "cycles": rtl.design.latency}
    seconds = {"generate": watch.read()}
    _ = rtl.verilated
    seconds["verilator_and_gxx"] = watch.read()
    found = rtl.logits(x)
    seconds["simulate"] = watch.read()
    victims: tuple[Victim, ...] = (Known("verilator", found), rtl.interpreted, accelerator.csim)
    differing = {victim.name: int((victim.logits(x) != expected).sum()) for victim in victims}
    return row | {"differing": differing, "outputs": int(expected.size), "processor_seconds": seconds}


def synthesis(report: Report, quick: bool, folder: Path) -> None:
    """The same designs through Yosys, beside what is estimated before."""
    rows = []
    for name in DENSE[: 0 if quick else None]:
        accelerator, watch = trained(name, folder).accelerator, Watch()
        rtl, cost = accelerator.rtl(), accelerator.cost
        _ = rtl.design
        watch.read()
        counted = {key: value for key, value in vars(rtl.gates).items() if key != "netlist"}
        estimated = {"rtl_luts_estimated": cost.rtl_luts, "luts_estimated": cost.total("luts_estimated")}
        rows.append({"design": name, **counted, **estimated, "yosys_seconds": watch.read()})
        print(f"  {rows[-1]}", flush=True)
        report.details["synthesis"] = rows


def cnn(report: Report, quick: bool, folder: Path) -> None:
    """The demo's CNN: unrolled in alkaid's interpreter, and layer by layer in Verilator."""
    if quick:
        report.leave_out("cnn_by_layer_mismatches", "minutes of Verilator and g++: not in --quick")
        return
    design = trained(CNN, folder)
    x, row = _shown(design)
    accelerator, watch = design.accelerator, Watch()
    rtl, expected = accelerator.rtl(), accelerator.bitsim.logits(x)
    row |= {"adders": rtl.adders, "limit": RtlConfig().max_adders}
    watch.read()
    row |= {"operations": len(rtl.traced.logic.ops), "trace_seconds": watch.read()}
    row["differing_interpreted"] = int((rtl.interpreted.logits(x) != expected).sum())
    row["interpreter_seconds"] = watch.read()
    report.figure("cnn_interpreter_mismatches", row["differing_interpreted"], f"outputs, {len(x):,} inputs")
    layered = rtl.by_layer
    row["layers"] = [
        {"layer": piece.op.out.layer, "adders": piece.adders, "positions": len(piece.takes)}
        for piece in layered.pieces
        if piece.network is not None
    ]
    _ = layered.verilated
    row["verilator_and_gxx_seconds"] = watch.read()
    row["differing_by_layer"] = int((layered.logits(x) != expected).sum())
    row["by_layer_seconds"] = watch.read()
    report.details["cnn"] = row
    print(f"  {row}")
    told = f"outputs, {len(x):,} inputs, {row['adversarial']:,} of them adversarial"
    report.figure("cnn_by_layer_mismatches", row["differing_by_layer"], told)


def netlist(report: Report, quick: bool, folder: Path) -> None:
    """The gates that Yosys made of a small design, with its models of AMD's cells, in Verilator."""
    made = make("mlp", 4)
    x, rtl = random_codes(made, 2 * INPUTS), made.accelerator.rtl(RtlConfig(latency_cutoff_ns=2.0))
    counted = rtl.gates
    rtl.use(counted.design(rtl.design))
    differing = int((rtl.logits(x) != made.accelerator.bitsim.logits(x)).sum())
    report.figure("netlist_mismatches", differing, f"outputs, {len(x):,} inputs, {counted.luts:,} LUTs of {made}")


def broken(report: Report, quick: bool, folder: Path) -> None:
    """One bit changed, of a weight or of the Verilog's text: how many such changes the gate finds, naming inputs."""
    made, config = make("mlp", 4), RtlConfig(latency_cutoff_ns=2.0)
    accelerator, x = made.accelerator, random_codes(made, 2000)
    changed, count = [], 1 if quick else 3
    for seed in range(count):
        in_weight, in_text = accelerator.rtl(config), accelerator.rtl(config)
        in_weight.network = weight_flipped(in_weight.network, seed)
        in_text.use(text_flipped(in_text.design, seed))
        changed += [in_weight, in_text]
    told = []
    for rtl in changed:
        try:
            require_exact(accelerator.bitsim, rtl, x, traces=(lambda c: accelerator.trace(c, "bitsim"), rtl.trace))
        except ExactnessError as error:
            told.append(str(error))
    report.details["broken"] = {"missed": len(changed) - len(told), "told": told}
    print("\n".join(told[:2]))
    report.figure("flipped_bits_caught", len(told), f"of {len(changed)}: a weight's lowest bit, a bit of the Verilog")


def weight_flipped(network: Network, seed: int) -> Network:
    """The network with the lowest bit of one weight of its first layer changed."""
    rng, ops = np.random.default_rng(seed), list(network.ops)
    number = next(number for number, op in enumerate(ops) if isinstance(op, Linear))
    layer = ops[number]
    assert isinstance(layer, Linear)
    weights = layer.weights.copy()
    weights.reshape(-1)[int(rng.integers(weights.size))] ^= 1
    ops[number] = replace(layer, weights=weights)
    return replace(network, ops=tuple(ops))


def text_flipped(design: Design, seed: int) -> Design:
    """The design with one bit of its Verilog changed: whether an adder adds or subtracts."""
    rng = np.random.default_rng(seed)
    name = next(name for name, text in design.files.items() if b"shift_adder #(" in text and "static" not in name)
    text = design.files[name].decode()
    flags = list(re.finditer(r"shift_adder #\([^)]*,([01])\) op_\d+", text))
    at = flags[int(rng.integers(len(flags)))].start(1)
    changed = text[:at] + str(1 - int(text[at])) + text[at + 1 :]
    return replace(design, files={**design.files, name: changed.encode()})


def attack(report: Report, quick: bool, folder: Path) -> None:
    """A decision-based attack that asks Verilator itself, and how fast that answers."""
    design = trained(MLP, folder)
    few, rtl = design.data.test.take(20 if quick else 100), design.accelerator.rtl()
    many = design.inputs(design.data.test.x[:0], 100_000)
    _ = rtl.verilated
    watch = Watch()
    rtl.logits(many)
    report.figure(
        "inputs_per_second", len(many) / watch.read(), f"of a processor, {MLP}: {len(many):,} through Verilator"
    )
    right = predictions(rtl, few.x) == few.y
    x, y = few.x[right], few.y[right]
    result = HopSkipJumpLinf(queries=100 if quick else 500)(rtl, x, y, epsilon_lsb=32, seed=0)
    confirmed = predictions(design.accelerator.bitsim, result.x) != y
    report.details["attack"] = {"images": len(x), "queries": result.queries, "fooled": int(result.success.sum())}
    told = f"of {len(x)} images at 32 LSB, {result.queries:,} queries of Verilator; bitsim says the same of each"
    report.figure("fooled_in_verilator", float(result.success.mean()), told)
    if not np.array_equal(confirmed, result.success):
        raise AssertionError("Verilator and bitsim judge an adversarial example differently")


PARTS = {"gates": gates, "synthesis": synthesis, "cnn": cnn, "netlist": netlist, "broken": broken, "attack": attack}
