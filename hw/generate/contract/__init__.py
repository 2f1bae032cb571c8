"""The exactness contract: what hls4ml 1.3.0 reproduces bit for bit. Everything else is refused by name, or repaired."""

from hw.generate.contract.accumulators import accumulator_warnings
from hw.generate.contract.names import RESERVED, check_layer_name
from hw.generate.contract.repair import OutputChange, Repaired, output_change, repair_model
from hw.generate.contract.rules import check_contract, contract
from hw.generate.contract.violation import Violation

__all__ = [
    "RESERVED",
    "OutputChange",
    "Repaired",
    "Violation",
    "accumulator_warnings",
    "check_contract",
    "check_layer_name",
    "contract",
    "output_change",
    "repair_model",
]
