"""A network in RTL: its Verilog, its bits, its gates. Each is made when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.rtl.by_layer import ByLayer
from hw.rtl.config import RtlConfig
from hw.rtl.numbers import raw_inputs, real
from hw.rtl.simulator import Verilated
from hw.rtl.size import adders
from hw.rtl.synthesis import Gates, synthesize
from hw.rtl.translate import Traced, translate
from hw.rtl.verilog import Design, make_design
from hw.simulate.bitsim.program import Ints, Network
from qmodels.errors import ToolMissing, UserError
from qmodels.grid import Codes, InputGrid
from qmodels.victims import Logits

Array = NDArray[Any]


class Interpreted:
    """alkaid's own interpreter of the program that the Verilog is written from; a `Victim`."""

    name = "alkaid"

    def __init__(self, traced: Traced, grid: InputGrid) -> None:
        self.traced, self.grid = traced, grid

    def run(self, raw: Ints) -> Ints:
        """Raw outputs (N, outputs) of raw inputs (N, inputs)."""
        if not len(raw):
            return np.zeros((0, self.traced.logic.shape[1]), np.int64)
        return np.asarray(self.traced.logic.predict(raw.astype(np.float64), n_threads=2)).astype(np.int64)

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid."""
        return real(self.run(raw_inputs(x, self.grid, self.traced.inputs)), self.traced.outputs)


class Rtl:
    """The same arithmetic as the accelerator's, in Verilog that takes a new input every cycle; a `Victim`.

    This is alkaid's RTL, fully unrolled, and not what a vendor's compiler makes of hls4ml's C++.
    """

    name = "verilator"

    def __init__(
        self,
        network: Network,
        grid: InputGrid,
        *,
        name: str = "accelerator_rtl",
        clock_period_ns: float = 5.0,
        part: str = "xcu250-figd2104-2L-e",
        config: RtlConfig | None = None,
    ) -> None:
        """Nothing is made yet.

        Args:
            network: as bitsim simulates it.
            grid: what its input can be.
            name: of the top module.
            clock_period_ns: how long a pipeline stage may take, where the config does not say.
            part: the FPGA, for synthesis.
            config: pipelining and limits; None: the defaults.

        Raises:
            ToolMissing: alkaid is not installed.
        """
        if find_spec("alkaid") is None:
            raise ToolMissing("alkaid not found: it writes the Verilog. Install it: pip install 'robust-hls[rtl]'")
        self.network, self.grid, self.top, self.part = network, grid, name, part
        self.config = config or RtlConfig()
        self.stage_ns = self.config.latency_cutoff_ns or clock_period_ns

    def __repr__(self) -> str:
        return f"Rtl({self.top}, about {self.adders:,} adders)"

    @cached_property
    def adders(self) -> int:
        """About how many additions the unrolled network has, told before anything is made."""
        return adders(self.network)

    def check_size(self) -> None:
        """Raise UserError where Verilator and Yosys would take too long."""
        if self.adders > self.config.max_adders:
            raise UserError(
                f"rtl: the unrolled network has about {self.adders:,} adders, and Verilator and g++ take hours for so "
                f"many (limit: rtl.max_adders, {self.config.max_adders:,}). --generate alone still compares alkaid's "
                "program against bitsim; --force or a higher limit goes on; fewer bits make it smaller"
            )

    @cached_property
    def traced(self) -> Traced:
        """The network as alkaid's program.

        Raises:
            UserError: an operation or a number that alkaid cannot say; names the layer.
        """
        return translate(self.network)

    @cached_property
    def interpreted(self) -> Interpreted:
        """alkaid's interpreter of this program."""
        return Interpreted(self.traced, self.grid)

    @cached_property
    def design(self) -> Design:
        """The Verilog."""
        return make_design(self.traced, self.top, self.stage_ns)

    def use(self, design: Design) -> None:
        """Take the Verilog of a folder in place of what would be written: its files may have been changed."""
        self.__dict__.update(design=design)
        for made in ("verilated", "gates"):
            self.__dict__.pop(made, None)

    def write(self, folder: Path | str) -> None:
        """Write the Verilog below `folder`."""
        self.design.write(Path(folder))

    @cached_property
    def verilated(self) -> Verilated:
        """The Verilog, compiled by Verilator.

        Raises:
            UserError: the network is too large.
            ToolMissing: no Verilator or g++, or one of them fails.
        """
        self.check_size()
        return Verilated(self.design)

    def logits(self, x: Codes) -> Logits:
        """Logits (N, classes) of codes (N, ...) on the grid, simulated in Verilator: one input a cycle."""
        return real(self.verilated.run(raw_inputs(x, self.grid, self.network.inputs)), self.network.outputs)

    def trace(self, x: Codes) -> dict[str, Array]:
        """Every layer's output (N, *shape), from Verilog that was written and compiled once more to show them."""
        seen = {name: value for name, value in self.network.traced.items() if value.size}
        traced = translate(self.network, tuple(seen.values()))
        design = make_design(traced, f"{self.top}_traced", self.stage_ns)
        raw, found, at = Verilated(design).run(raw_inputs(x, self.grid, traced.inputs)), {}, 0
        for name, value in seen.items():
            found[name] = real(raw[:, at : at + value.size], (value,)).reshape(-1, *value.shape)
            at += value.size
        return found

    @cached_property
    def by_layer(self) -> ByLayer:
        """The same network for sizes that cannot be unrolled whole: Verilog of one position of every layer."""
        return ByLayer(self.network, self.grid, self.top, self.stage_ns)

    @cached_property
    def gates(self) -> Gates:
        """What Yosys makes of the Verilog for the part's family.

        Raises:
            UserError: the network is too large.
            ToolMissing: no Yosys, or it fails.
        """
        self.check_size()
        return synthesize(self.design, self.part)
