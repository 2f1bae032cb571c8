"""bitsim's kernels under AddressSanitizer and UndefinedBehaviorSanitizer, over the test suite's random networks.

    python benchmarks/sanitize.py [--quick] [--json OUT] [--only native portable avx2]

The kernels are compiled with `ROBUST_HLS_BITSIM_SANITIZE=address,undefined`, and the tests of bitsim run with libasan
in LD_PRELOAD, so that NumPy's arrays have guarded ends too. A finding stops the tests. Keys: `<isa>_tests`,
`<isa>_findings` (0).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import Report, parser
from hw.simulate.bitsim.kernels.library import ISA_VARIABLE, SANITIZE_VARIABLE
from hw.tools.toolchain import GXX, require_tool

ROOT = Path(__file__).resolve().parent.parent
ISAS = ("native", "portable", "avx2")
TESTS = ("test_random_networks.py", "test_integer_codes.py", "test_number_formats.py", "test_bitsim.py")
_FINDING = re.compile(r"(ERROR: AddressSanitizer.*|.*runtime error: .*)")


def run(isa: str, tests: tuple[str, ...]) -> tuple[int, list[str], str]:
    """How many tests passed, what was found, and all that was printed."""
    gxx = str(require_tool(GXX))
    libraries = [
        subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    tools = tempfile.TemporaryDirectory(prefix="sanitize-")
    compiler = Path(tools.name) / "g++"  # which need not be looked at itself: that takes minutes
    compiler.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {gxx} "$@"\n')
    compiler.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([tools.name, os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        SANITIZE_VARIABLE: "address,undefined",
        ISA_VARIABLE: isa,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",  # Python never frees all
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    folder = ROOT / "tests" / "hw" / "simulate" / "bitsim"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-s", "-p", "no:faulthandler", "-p", "no:timeout"]
    chosen = [str(folder / test) for test in tests]
    done = subprocess.run(
        [*command, "-W", "ignore", "-o", "addopts=", *chosen],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    tools.cleanup()
    words = done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", words)
    found = _FINDING.findall(words)
    if done.returncode and not found:
        found = [f"the tests failed, status {done.returncode}"]
    return int(passed[1]) if passed else 0, found, words


def main() -> int:
    """0 when nothing is found."""
    options = parser(__doc__, ISAS).parse_args()
    report, details, found_any = Report(), dict[str, Any](), False
    for isa in options.only:
        passed, found, words = run(isa, TESTS[:1] if options.quick else TESTS)
        report.figure(f"{isa}_tests", passed)
        report.figure(f"{isa}_findings", len(found))
        found_any |= bool(found)
        if found:
            details[isa] = found[:5]
            print(words[-4000:], flush=True)
    report.details = details
    report.write(options.json)
    return int(found_any)


if __name__ == "__main__":
    sys.exit(main())
