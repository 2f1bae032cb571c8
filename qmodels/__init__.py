"""The software side: data, models, training, quantization, attacks and metrics (TensorFlow + QKeras).

Imports nothing from `hw`, and no TensorFlow until a function needs it.
"""
