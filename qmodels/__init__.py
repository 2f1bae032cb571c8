"""The software side: data, models, training, quantization, attacks and metrics (TensorFlow + QKeras).

Imports nothing from `hw`, and no TensorFlow until a function needs it.
"""

from qmodels.loading import load_model

__all__ = ["load_model"]
