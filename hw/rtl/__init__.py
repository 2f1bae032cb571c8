"""From bitsim's network to gates with open tools: alkaid writes Verilog, Verilator simulates, Yosys synthesizes it."""

from hw.rtl.config import RtlConfig
from hw.rtl.rtl import Rtl

__all__ = ["Rtl", "RtlConfig"]
