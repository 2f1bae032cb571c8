"""TensorFlow Lite files: attacked as they are, and made from float Keras models."""

from qmodels.tflite.inputs import PIXELS, InputMap, Pixels
from qmodels.tflite.process import is_tflite
from qmodels.tflite.victim import TFLiteVictim

__all__ = ["PIXELS", "InputMap", "Pixels", "TFLiteVictim", "is_tflite"]
