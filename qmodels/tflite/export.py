"""From a trained float Keras model to `.tflite`, by TensorFlow's own converter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np

from qmodels.errors import UserError
from qmodels.grid import IMAGE_GRID, InputGrid, Values
from qmodels.layers import is_quantized
from qmodels.runtime import quiet_stderr, runtime

#: int8: 8-bit weights and activations. int16x8: 8-bit weights, 16-bit activations.
Target = Literal["float32", "int8", "int16x8"]
TARGETS: tuple[Target, ...] = get_args(Target)


def export_tflite(model: Any, target: Target, calibration: Values, *, grid: InputGrid = IMAGE_GRID) -> bytes:
    """A float Keras model as the content of a `.tflite` file.

    Inputs and outputs are integers where the network's are. The file's input steps are powers of two, on an 8-bit
    grid the grid's own, so that every code is one stored number, exactly.

    Args:
        model: float Keras model; batch normalization is folded by the converter.
        target: precision.
        calibration: values (N, ...) of training inputs, never of test inputs; the ranges of activations are theirs.
        grid: what inputs can be.

    Raises:
        UserError: the model is quantized already, or the converter cannot have it.
    """
    if is_quantized(model):
        raise UserError(f"model {model.name}: has quantizers; a .tflite file is made of a float model")
    if not len(calibration):
        raise UserError("export to .tflite: no training inputs to find the ranges of activations with")
    tf = runtime().tf
    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says of its own settings that they are unusual
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if target != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _one_by_one(_with_ends(calibration, target, grid))
            operators, kind = _integer(target)
            converter.target_spec.supported_ops = [operators]
            converter.inference_input_type = converter.inference_output_type = kind
        try:
            content: bytes = converter.convert()
        except Exception as error:  # of MLIR: almost anything
            raise UserError(
                f"model {model.name}: TensorFlow's converter cannot make {target} of it "
                f"({type(error).__name__}: {str(error).strip()[:300]})"
            ) from error
    return content


def _integer(target: Target) -> tuple[Any, Any]:
    """The converter's operators, and the type of inputs and outputs."""
    lite = runtime().tf.lite
    if target == "int8":
        return lite.OpsSet.TFLITE_BUILTINS_INT8, runtime().tf.int8
    return lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8, runtime().tf.int16


def _with_ends(values: Values, target: Target, grid: InputGrid) -> Values:
    """The same with two numbers of the first input moved, so that the converter's input steps become powers of two.

    It divides the range of an 8-bit input by 255, and the largest number of a 16-bit input by 32767.
    """
    changed, fmt = np.array(values), grid.format
    if target == "int8" and fmt.width <= 8:
        changed[0].flat[0], changed[0].flat[-1] = fmt.minimum, fmt.maximum
    if target == "int16x8":
        largest = max(abs(fmt.minimum), abs(fmt.maximum))
        changed[0].flat[-1] = 2.0 ** np.ceil(np.log2(largest)) * 32767 / 32768
    return changed


def _one_by_one(values: Values) -> Iterator[list[Values]]:
    for place in range(len(values)):
        yield [values[place : place + 1]]
