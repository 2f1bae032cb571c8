"""From bitsim's network to gates with open tools: alkaid writes Verilog, Verilator simulates, Yosys synthesizes it."""

from typing import TYPE_CHECKING

from qmodels.lazy import lazy_names

if TYPE_CHECKING:
    from hw.rtl.config import RtlConfig
    from hw.rtl.rtl import Rtl

__all__ = ["Rtl", "RtlConfig"]

# A config has settings of RTL, and is read before anything is simulated.
__getattr__ = lazy_names(__name__, {"Rtl": "hw.rtl.rtl", "RtlConfig": "hw.rtl.config"})
