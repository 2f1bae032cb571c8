"""An alkaid program as a pipelined Verilog design: one new input every cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.project import FileTree
from hw.rtl.translate import Traced
from hw.simulate.bitsim.program import Ints
from qmodels.errors import UserError
from qmodels.storage import read_json, write_json

Words = NDArray[np.uint32]
#: What a design's folder says of it.
FACTS_FILE = "design.json"
_FACTS: dict[str, Callable[[Any], Any]] = {
    "name": str,
    "latency": int,
    "register_bits": int,
    "operations": int,
    "alkaid_cost": float,
}
_SIDES = ("inputs", "outputs")
_LICENSE = """\
Verilog of the network's arithmetic, written by alkaid (https://pypi.org/project/alkaid).

The files in static/ are alkaid's own, unchanged, under the GNU Lesser General Public License, version 3 (LGPL-3.0);
alkaid-LICENSE is its text. Whoever passes this folder on passes them on under that license. The other files are
generated from your network.

What this proves: simulated, these files give the bits of the accelerator that hls4ml describes. It is other RTL than
the one a vendor's compiler makes of hls4ml's C++.
"""


@dataclass(frozen=True)
class Port:
    """Numbers in one packed vector: of each its bits, its sign, and the weight of its lowest bit as a power of two."""

    widths: tuple[int, ...]
    signed: tuple[bool, ...]
    shifts: tuple[int, ...]

    @property
    def words(self) -> int:
        """32-bit words of the vector."""
        return max(1, -(-sum(self.widths) // 32))

    def pack(self, raw: Ints) -> Words:
        """Vectors (N, words) of raw integers (N, numbers)."""
        packed = np.zeros((len(raw), self.words + 2), np.uint64)
        at = 0
        for column, width, shift in zip(raw.T, self.widths, self.shifts, strict=True):
            bits = (column >> shift).astype(np.uint64) & np.uint64((1 << width) - 1)
            word, offset = divmod(at, 32)
            packed[:, word] |= (bits << np.uint64(offset)) & np.uint64(0xFFFFFFFF)
            packed[:, word + 1] |= (bits >> np.uint64(32 - offset)) & np.uint64(0xFFFFFFFF)
            if offset + width > 64:
                packed[:, word + 2] |= bits >> np.uint64(64 - offset)
            at += width
        return packed[:, : self.words].astype(np.uint32)

    def unpack(self, packed: Words) -> Ints:
        """Raw integers (N, numbers) of vectors (N, words)."""
        wide = np.concatenate([packed, np.zeros((len(packed), 2), np.uint32)], axis=1).astype(np.uint64)
        raw = np.zeros((len(packed), len(self.widths)), np.int64)
        at = 0
        for i, (width, signed, shift) in enumerate(zip(self.widths, self.signed, self.shifts, strict=True)):
            word, offset = divmod(at, 32)
            bits = (wide[:, word] >> np.uint64(offset)) | (wide[:, word + 1] << np.uint64(32 - offset))
            if offset + width > 64:
                bits |= wide[:, word + 2] << np.uint64(64 - offset)
            number = (bits & np.uint64((1 << width) - 1)).astype(np.int64)
            if signed and width:
                number -= (number >> (width - 1)) << width
            raw[:, i] = number << shift
            at += width
        return raw


@dataclass(frozen=True, repr=False)
class Design(FileTree):
    """Verilog files; `name` is the top module, with ports clk, model_inp and model_out.

    A result is there `latency` cycles after its input, and every cycle takes another input. `register_bits` are those
    of the pipeline, `operations` alkaid's, and `alkaid_cost` what alkaid thinks it takes in LUTs.
    """

    inputs: Port = Port((), (), ())
    outputs: Port = Port((), (), ())
    latency: int = 0
    register_bits: int = 0
    operations: int = 0
    alkaid_cost: float = 0.0

    def write(self, folder: Path) -> None:
        """Write all files, and beside them what `load` reads back."""
        super().write(folder)
        facts = {key: value for key, value in vars(self).items() if key in _FACTS}
        facts |= {side: asdict(getattr(self, side)) for side in _SIDES}
        write_json(folder / FACTS_FILE, facts)

    @classmethod
    def load(cls, folder: Path) -> Design:
        """The design of a folder, with its files as they are now; UserError where its design.json is damaged."""
        facts = read_json(folder / FACTS_FILE)
        inside = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS_FILE)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in inside}
        try:
            sides: dict[str, Any] = {side: _read_port(facts.pop(side)) for side in _SIDES}
            return cls(files=files, **sides, **{key: _FACTS[key](value) for key, value in facts.items()})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{folder / FACTS_FILE}: damaged; remove {folder}, and it is made again") from None

    @property
    def sources(self) -> tuple[str, ...]:
        """The Verilog files among the files."""
        return tuple(sorted(name for name in self.files if name.endswith(".v")))


def _read_port(facts: dict[str, Any]) -> Port:
    widths, signed, shifts = (tuple(map(int, facts[key])) for key in ("widths", "signed", "shifts"))
    return Port(widths, tuple(map(bool, signed)), shifts)


def is_zero(traced: Traced) -> bool:
    """Whether every output is 0 for every input."""
    return not any(traced.logic.out_kifs.sum(axis=0))


def make_design(traced: Traced, name: str, stage_ns: float) -> Design:
    """Verilog of a program.

    Args:
        traced: what alkaid was told.
        name: of the top module.
        stage_ns: how long one pipeline stage may take by alkaid's estimate.
    """
    if is_zero(traced):
        raise UserError(f"{name}: every output is 0 for every input, so there is nothing to describe")
    from alkaid.codegen.rtl import RTLModel
    from alkaid.codegen.rtl.verilog.fsm import fsm_logic_gen

    model = RTLModel(traced.logic, ".", name, latency_cutoff=stage_ns)
    static = files("alkaid.codegen.rtl") / "verilog" / "source"
    content = {f"static/{file.name}": file.read_bytes() for file in static.iterdir() if file.name.endswith(".v")}
    content |= {f"{stem}.v": text.encode() for stem, text in fsm_logic_gen(model.fsm, name).items()}
    content["LICENSE.txt"] = _LICENSE.encode()
    content["alkaid-LICENSE"] = (files("alkaid") / "LICENSE").read_bytes()
    (taken,), (given,) = model.fsm.inp_signals, model.fsm.out_signals
    return Design(
        name,
        dict(sorted(content.items())),
        _port(taken.precisions),
        _port(given.precisions),
        int(given.schedule.bias),
        int(model.reg_bits),
        len(traced.logic.ops),
        float(model._comb.cost),
    )


def _port(precisions: Sequence[Any]) -> Port:
    return Port(
        tuple(int(sum(p)) for p in precisions),
        tuple(bool(p[0]) for p in precisions),
        tuple(-int(p[2]) for p in precisions),
    )
