"""The software side: data, models, training, quantization, attacks and metrics (TensorFlow + QKeras).

Imports nothing from `hw`, and no TensorFlow until a function needs it.
"""

<<<<<<< HEAD
from typing import TYPE_CHECKING

from qmodels.lazy import lazy_names

if TYPE_CHECKING:
    from qmodels.errors import UserError
    from qmodels.formats import FixedPoint
    from qmodels.loading import load_model

__all__ = ["FixedPoint", "UserError", "load_model"]

__getattr__ = lazy_names(
    __name__,
    {
        "FixedPoint": "qmodels.formats",
        "UserError": "qmodels.errors",
        "load_model": "qmodels.loading",
    },
)
=======
from qmodels.loading import load_model

__all__ = ["load_model"]
>>>>>>> load
