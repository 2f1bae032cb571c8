"""The software side: data, models, training, quantization, attacks and metrics (TensorFlow + QKeras).

Imports nothing from `hw`, and no TensorFlow until a function needs it. Names are imported when first used.
"""

from typing import TYPE_CHECKING

from qmodels.lazy import lazy_names

if TYPE_CHECKING:
    from qmodels.attacks import (
        APGD,
        BIM,
        CWL2,
        FGSM,
        MIM,
        PGD,
        PGDL2,
        Attack,
        AttackResult,
        HopSkipJumpLinf,
        Square,
        WorstCase,
        parse_attack,
    )
    from qmodels.data import Dataset, Split, load_data
    from qmodels.errors import UserError
    from qmodels.formats import FixedPoint
    from qmodels.grid import IMAGE_GRID, InputGrid
    from qmodels.loading import load_model
    from qmodels.quantize.model import QuantizationConfig, quantize_model
    from qmodels.victims import KerasVictim

__all__ = [
    "APGD",
    "BIM",
    "CWL2",
    "FGSM",
    "IMAGE_GRID",
    "MIM",
    "PGD",
    "PGDL2",
    "Attack",
    "AttackResult",
    "Dataset",
    "FixedPoint",
    "HopSkipJumpLinf",
    "InputGrid",
    "KerasVictim",
    "QuantizationConfig",
    "Split",
    "Square",
    "UserError",
    "WorstCase",
    "load_data",
    "load_model",
    "parse_attack",
    "quantize_model",
]

__getattr__ = lazy_names(
    __name__,
    {
        "APGD": "qmodels.attacks",
        "Attack": "qmodels.attacks",
        "AttackResult": "qmodels.attacks",
        "BIM": "qmodels.attacks",
        "CWL2": "qmodels.attacks",
        "Dataset": "qmodels.data",
        "FGSM": "qmodels.attacks",
        "FixedPoint": "qmodels.formats",
        "HopSkipJumpLinf": "qmodels.attacks",
        "IMAGE_GRID": "qmodels.grid",
        "InputGrid": "qmodels.grid",
        "KerasVictim": "qmodels.victims",
        "MIM": "qmodels.attacks",
        "PGD": "qmodels.attacks",
        "PGDL2": "qmodels.attacks",
        "QuantizationConfig": "qmodels.quantize.model",
        "Split": "qmodels.data",
        "Square": "qmodels.attacks",
        "UserError": "qmodels.errors",
        "WorstCase": "qmodels.attacks",
        "load_data": "qmodels.data",
        "load_model": "qmodels.loading",
        "parse_attack": "qmodels.attacks",
        "quantize_model": "qmodels.quantize.model",
    },
)
