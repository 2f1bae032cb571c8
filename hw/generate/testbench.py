"""The test bench: inputs, clean and adversarial, with the outputs that the accelerator must give, bit for bit.

hls4ml's `*_test.cpp` prints outputs and predictions, compares nothing and always returns 0. `with_checks` makes it
compare every output and fail, in plain C++: the vendor's C simulation and RTL cosimulation, and g++, run it alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.digest import files_digest
from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.storage import atomic_folder
from qmodels.victims import Logits

#: Gives a new folder that takes the place of one.
Replacing = Callable[[Path], AbstractContextManager[Path]]
FOLDER = "tb_data"
INPUTS = "tb_input_features.dat"
OUTPUTS = "tb_output_predictions.dat"
INDEX = "tb_index.json"


@dataclass(frozen=True)
class Origin:
    """Where one line of the test bench comes from."""

    kind: str  # clean, extreme or adversarial
    image: int | None = None  # index of the test image
    label: int | None = None
    attack: str | None = None
    epsilon_lsb: float | None = None
    source: str | None = None  # model and victim that the example was made on


@dataclass(frozen=True)
class TestBench:
    """Codes (N, ...) of inputs, the outputs (N, classes) that belong to them, and each line's origin."""

    __test__ = False  # not a pytest class

    inputs: Codes
    outputs: Logits
    origins: tuple[Origin, ...]
    grid: InputGrid = IMAGE_GRID

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.outputs) == len(self.origins):
            raise ValueError("a test bench has one output and one origin for every input")

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The files of `tb_data/` by name."""
        lines = [{"line": number, **asdict(origin)} for number, origin in enumerate(self.origins, start=1)]
        index = json.dumps({"schema": 1, "lines": lines}, indent=1)
        return {
            INPUTS: _lines(self.grid.to_values(self.inputs)),
            OUTPUTS: _lines(self.outputs),
            INDEX: (index + "\n").encode(),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents."""
        return files_digest(self.files)

    @property
    def adversarial(self) -> int:
        """How many inputs are adversarial examples."""
        return sum(origin.kind == "adversarial" for origin in self.origins)

    def write(self, project: Path, replacing: Replacing = atomic_folder) -> tuple[str, ...]:
        """Replace the project's `tb_data` folder as a whole.

        Args:
            project: the HLS project's folder.
            replacing: gives a new folder that takes the place of one.

        Returns:
            names of the files, relative to the project.
        """
        with replacing(project / FOLDER) as fresh:
            for name, content in self.files.items():
                (fresh / name).write_bytes(content)
        return tuple(f"{FOLDER}/{name}" for name in self.files)


def _lines(values: NDArray[Any]) -> bytes:
    """One line a sample; every number with all its decimals, so that reading it back gives the same bits."""
    rows = np.asarray(values, np.float32).reshape(len(values), -1)
    if not np.isfinite(rows).all():
        raise UserError("test bench: an input or output is not a finite number")
    known = {value: _exact(value) for value in np.unique(rows).tolist()}
    return "".join(" ".join(known[value] for value in row) + "\n" for row in rows.tolist()).encode()


def _exact(value: float) -> str:
    return format(Decimal(value), "f") if value else "0"  # -0.0 has no fixed-point counterpart


def select(groups: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Take `wanted` items in turn from groups of the given sizes: pairs (group, item in the group)."""
    depth = max(groups, default=0)
    turns = [(group, item) for item in range(depth) for group, size in enumerate(groups) if item < size]
    return turns[:wanted]


# -- hls4ml's *_test.cpp

_CHECKS = r"""
// robust-hls: every output is compared with the prediction, bit for bit; any difference makes main() fail.
#include <cstdlib>
#include <string>

namespace robust_hls {
const unsigned shown = 5;
unsigned long compared = 0, different = 0, samples = 0, different_samples = 0;

void compare(unsigned long line, const std::vector<float> &expected, const double *actual, size_t first, size_t count) {
    bool differs = false;
    for (size_t i = 0; i < count; i++) {
        compared++;
        if (actual[i] == (double)expected[first + i])
            continue;
        differs = true;
        if (different++ < shown)
            std::cout << "MISMATCH line " << line + 1 << ", output " << first + i << ": expected "
                      << expected[first + i] << ", got " << actual[i] << std::endl;
    }
    samples++;
    different_samples += differs;
}

void write(std::ofstream &out, const double *values, size_t count) {
    out.precision(17);
    for (size_t i = 0; i < count; i++)
        out << values[i] << " ";
    out << std::endl;
}

unsigned long lines(const std::string &path) {
    std::ifstream file(path.c_str());
    std::string line;
    unsigned long count = 0;
    while (std::getline(file, line))
        count++;
    return count;
}

void require_sizes(unsigned long line, size_t in, size_t in_wanted, size_t out, size_t out_wanted) {
    if (in == in_wanted && out == out_wanted)
        return;
    std::cout << "FAIL: line " << line + 1 << " has " << in << " inputs and " << out << " outputs, needs " << in_wanted
              << " and " << out_wanted << std::endl;
    std::exit(1);
}

int verdict(const std::string &inputs, const std::string &predictions, size_t outputs) {
    unsigned long wanted = lines(inputs) * outputs;
    bool whole = wanted > 0 && compared == wanted && lines(predictions) * outputs == wanted;
    std::cout << (different == 0 && whole ? "PASS: " : "FAIL: ") << different << " of " << compared
              << " outputs differ, in " << different_samples << " of " << samples << " inputs" << std::endl;
    if (!whole)
        std::cout << "FAIL: " << wanted << " outputs wanted: " << inputs << " or " << predictions
                  << " is missing, empty or cut" << std::endl;
    return different == 0 && whole ? 0 : 1;
}
} // namespace robust_hls
"""

#: What Intel's compiler brings along, for g++: call the component at once.
_QUARTUS_CALLS = """
#ifndef __INTELFPGA_COMPILER__
#define ihc_hls_enqueue(result, function, ...) (*(result) = function(__VA_ARGS__))
#define ihc_hls_enqueue_noret(function, ...) ((*(function))(__VA_ARGS__))
#define ihc_hls_component_run_all(function)
#endif
"""
_COUNT = r"(\d+(?:\*\d+)*)"  # the PyTorch front end writes the product of an output's sizes
_PRINT = re.compile(rf"^( *)nnet::print_result<(\w+), {_COUNT}>\((\w+), fout\);\n", re.MULTILINE)
_DATA = "// hls-fpga-machine-learning insert data\n"
_MAIN = re.compile(r"^(?:int main\(|CCS_MAIN\()", re.MULTILINE)
_OUT_LOOP = (
    rf"^( *)for\(int i = 0; i < {_COUNT}; i\+\+\) \{{\n"
    r" *fout << %s\[i\] << \" \";\n *\}\n *fout << std::endl;\n"
)


def with_checks(source: str, backend: str, inputs: int, outputs: int) -> str:
    """hls4ml's generated test bench, made to compare and to fail.

    Args:
        source: `<project>_test.cpp` as hls4ml 1.3.0 writes it.
        backend: hls4ml's name of the backend.
        inputs: numbers in one line of the input file.
        outputs: numbers in one line of the predictions.
    """
    quartus = backend.lower() == "quartus"
    patch: Callable[[str], str] = _patch_quartus if quartus else _patch_prints
    body = patch(source)
    counter = ("num_iterations" if "num_iterations++" in body else "iteration") if quartus else "e"
    guard = f"robust_hls::require_sizes({counter}, in.size(), {inputs}, pr.size(), {outputs});\n            "
    body = _once(body, _DATA, guard + _DATA)
    files = "tb_in, tb_out" if backend.lower() == "catapult" else f'"{FOLDER}/{INPUTS}", "{FOLDER}/{OUTPUTS}"'
    body = _once(body, "    return 0;\n}", f"    return robust_hls::verdict({files}, {outputs});\n}}")
    start = _MAIN.search(body)
    assert start is not None, "hls4ml's test bench has no main function"
    checks = _CHECKS.lstrip("\n") + (_QUARTUS_CALLS if quartus else "") + "\n"
    return body[: start.start()] + checks + body[start.start() :]


def _patch_prints(source: str) -> str:
    """Vivado, Vitis, VivadoAccelerator and Catapult: values go to an array, which is compared and written.

    A stream is empty once read, so the array takes the place of the print. An output's first print to `fout` is the
    one in the loop over the file; the later ones are for random or zero inputs, and stay.
    """
    # hls4ml 1.3.0 replaces the input's name inside its type's name too when it writes the AXI wrapper
    source = source.replace("copy_data_axi<float, inputs_t,", "copy_data_axi<float, input_axi_t,")
    offsets: dict[str, int] = {}
    total = 0

    def compared(found: re.Match[str]) -> str:
        nonlocal total
        indent, kind, count, variable = found.groups()
        if variable in offsets:
            return found[0]
        offsets[variable] = total
        total += prod(map(int, count.split("*")))
        lines = (
            f"double {variable}_values[{count}];",
            f"nnet::convert_data<{kind}, double, {count}>({variable}, {variable}_values);",
            f"robust_hls::compare(e - 1, pr, {variable}_values, {offsets[variable]}, {count});",
            f"robust_hls::write(fout, {variable}_values, {count});",
        )
        return "".join(f"{indent}{line}\n" for line in lines)

    patched = _PRINT.sub(compared, source)
    assert offsets, "hls4ml's test bench differs from that of 1.3.0"
    return patched


def _patch_quartus(source: str) -> str:
    """Quartus: outputs are collected first (io_parallel) or converted to float (io_stream, double from here on)."""
    if "float res[" in source:
        source = source.replace("float res[", "double res[")
        source = re.sub(r"(convert_data_back<\w+, )float,", r"\1double,", source)
        found = re.search(_OUT_LOOP % "res", source, re.MULTILINE)
        assert found is not None, "hls4ml's test bench differs from that of 1.3.0"
        indent, count = found.groups()
        compare = f"{indent}robust_hls::compare(iteration, predictions[iteration], res, 0, {count});\n"
        return source[: found.end()] + compare + source[found.end() :]
    found = re.search(_OUT_LOOP % r"outputs\[j\]\.(\w+)", source, re.MULTILINE)
    assert found is not None, "hls4ml's test bench differs from that of 1.3.0"
    indent, count, member = found.groups()
    lines = (
        f"double values[{count}];",
        f"for (int i = 0; i < {count}; i++)",
        f"    values[i] = outputs[j].{member}[i].to_double();",
        f"robust_hls::compare(j, predictions[j], values, 0, {count});",
    )
    return source[: found.end()] + "".join(f"{indent}{line}\n" for line in lines) + source[found.end() :]


def _once(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"hls4ml's test bench has {text.count(old)} times {old!r}"
    return text.replace(old, new)
