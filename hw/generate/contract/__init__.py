"""The exactness contract: what hls4ml 1.3.0 reproduces bit for bit. All else is repaired, reported or refused."""

from hw.generate.contract.accumulators import accumulator_warnings
from hw.generate.contract.conversion import ConversionSettings, conversion_settings
from hw.generate.contract.names import RESERVED
from hw.generate.contract.repair import OutputChange, Repaired, add_input_quantizer, output_change, repair_model
from hw.generate.contract.rules import Exactness, check_contract, contract
from hw.generate.contract.scale import fold_scale
from hw.generate.contract.suspects import suspects
from hw.generate.contract.types import set_activation_types, set_input_types, teach_bit_exact
from hw.generate.contract.violation import Violation

__all__ = [
    "RESERVED",
    "ConversionSettings",
    "Exactness",
    "OutputChange",
    "Repaired",
    "Violation",
    "accumulator_warnings",
    "add_input_quantizer",
    "check_contract",
    "contract",
    "conversion_settings",
    "fold_scale",
    "output_change",
    "repair_model",
    "set_activation_types",
    "set_input_types",
    "suspects",
    "teach_bit_exact",
]
