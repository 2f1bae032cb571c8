"""A stand-in for the vendors' tools: records how it was called, and leaves the reports that the real one would.

Installed on PATH under a tool's name; `FAKE_MODE` and `FAKE_LOG` are set in the copy that the test installs.
"""

import json
import pathlib
import shutil
import sys
import time

MODE, LOG, REPORTS, VERSION = "FAKE_MODE", pathlib.Path("FAKE_LOG"), pathlib.Path("FAKE_REPORTS"), "FAKE_VERSION"
PLACES = {
    "synth": ("csynth.xml", "accelerator_prj/solution1/syn/report/accelerator_csynth.xml"),
    "cosim": ("cosim.rpt", "accelerator_prj/solution1/sim/report/accelerator_cosim.rpt"),
    "export": ("csynth.xml", "accelerator_prj/solution1/impl/ip/component.xml"),
}
CSIM_LOG = "accelerator_prj/solution1/csim/report/accelerator_csim.log"
VERDICT = "PASS: 0 of 60 outputs differ, in 0 of 6 inputs"


def stage(arguments):
    text = " ".join(arguments)
    if "vivado_synth.tcl" in text:
        return "vsynth"
    if pathlib.Path("build_opt.tcl").exists():
        text = pathlib.Path("build_opt.tcl").read_text()
    pairs = text.replace("=", " ").replace("{", " ").replace("}", " ").split()
    return next(name for name in ("csim", "synth", "cosim", "export") if pairs[pairs.index(name) + 1] == "1")


def leave(source, target):
    path = pathlib.Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPORTS / source, path)


def bench(name):
    words = [VERDICT]
    if MODE == f"differ {name}":
        words = ["MISMATCH line 3, output 1: expected 0.5, got 0.25", "FAIL: 1 of 60 outputs differ, in 1 of 6 inputs"]
    if MODE == f"cut {name}":
        words = ["FAIL: 0 of 0 outputs differ, in 0 of 0 inputs", "FAIL: 640 outputs wanted: tb_data/x.dat is missing"]
    print("\n".join(words))
    if name == "csim":
        log = pathlib.Path(CSIM_LOG)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("\n".join(["INFO: [SIM 2] csim", *words]))
    return words == [VERDICT]


def main():
    arguments = sys.argv[1:]
    if "-version" in arguments or "--version" in arguments:
        print(f"{pathlib.Path(sys.argv[0]).name} {VERSION}")
        return 0
    name = stage(arguments)
    with LOG.open("a") as log:
        log.write(json.dumps([pathlib.Path(sys.argv[0]).name, name, arguments, str(pathlib.Path.cwd())]) + "\n")
    print("INFO: nobody needs to see this")
    print(f"***** {name.upper()} *****", flush=True)
    if MODE == f"hang {name}":
        pathlib.Path("half").write_text("written")
        time.sleep(100)
    if MODE == f"crash {name}":
        print("ERROR: [HLS 200-70] no licence for this")
        return 9
    if name in ("csim", "cosim") and not bench(name):
        return 1
    if MODE == f"silent {name}":
        return 0
    if name in PLACES:
        leave(*PLACES[name])
    if name == "vsynth":
        leave("vivado_synth.rpt", "vivado_synth.rpt")
        leave("vivado_timing.rpt", "vivado_timing.rpt")
    return 0


sys.exit(main())
