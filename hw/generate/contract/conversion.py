"""How hls4ml is to convert a model, given what its contract says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hw.generate.contract.violation import Violation


@dataclass(frozen=True)
class ConversionSettings:
    """Arguments of hls4ml's `config_from_keras_model` and `convert_from_keras_model`."""

    bit_exact: bool
    granularity: Literal["name"] = "name"  # coarser ones lose the quantizers' types without a word


def conversion_settings(found: Iterable[Violation]) -> ConversionSettings:
    """How to convert a model whose contract has nothing worse than reported violations.

    With bit_exact, hls4ml gives every number the bits it needs, so float weights and scales differ by TensorFlow's own
    rounding only. Where its pass stops, or gets a layer wrong, the types of hls4ml's configuration are used: 16 bits,
    6 of them integer, where no quantizer says otherwise. Either way bitsim and csim agree.

    Args:
        found: what `contract` said of the model.
    """
    return ConversionSettings(bit_exact=not any(violation.stops_bit_exact for violation in found))
