"""||ΔW||_p of a layer's quantization error: how much the layer can amplify it, sup ||ΔW z||_p over ||z||_p = 1.

Above 1 an error, quantization's or an adversary's, may grow on its way through the layer. For a convolution two
matrices go by the name of W, and their norms differ by up to a factor of two either way, so both are given:
*reshaped*, the kernel as a (channels out) x (patch) matrix, which bounds the step from one patch to one pixel; and
*operator*, the linear map from whole image to whole image, with its stride and padding. For a dense layer they
are the same.

Sources: Lin, Gan, Han, "Defensive Quantization" (arXiv:1904.08444) for the reshaped norm and the criterion;
Sedghi, Gupta, Long (arXiv:1805.10408) for why the operator norm is another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmodels.errors import UserError
from qmodels.layers import kernel_of, weighted_layers

Matrix = NDArray[np.float64]

#: Up to this many rows or columns the matrix is written out and its singular values are exact.
SMALL = 400
SVD_TOLERANCE = 1e-10  # of ARPACK's singular value, relative


class Norms(NamedTuple):
    """Operator norms of one linear map."""

    one: float  # largest column sum
    two: float  # largest singular value
    inf: float  # largest row sum


@dataclass(frozen=True)
class LayerNorms:
    """Norms of a layer's weights, or of the difference of two layers' weights."""

    layer: str
    kind: str  # class of the layer in the first model
    reshaped: Norms
    operator: Norms

    def as_dict(self) -> dict[str, Any]:
        """Flat values for JSON: layer, kind, reshaped_1, reshaped_2, reshaped_inf, operator_1, ..."""
        values: dict[str, Any] = {"layer": self.layer, "kind": self.kind}
        for view, norms in (("reshaped", self.reshaped), ("operator", self.operator)):
            values |= {f"{view}_{p}": value for p, value in zip(("1", "2", "inf"), norms, strict=True)}
        return values


class Convolution(NamedTuple):
    """Where a 2-D convolution's kernel is applied. One-dimensional ones have height 1."""

    input_shape: tuple[int, int, int]  # H, W, C
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


def difference_norms(model: Any, quantized: Any) -> tuple[LayerNorms, ...]:
    """||Q(W) - W|| of every layer with weights.

    Args:
        model: the float model (mapped, if the quantized one was made from a mapped one).
        quantized: its QKeras twin with the same layer names, or any model with the same kernels' shapes.

    Raises:
        UserError: the models' layers do not correspond.
    """
    return tuple(layer_norms(layer, kernel) for layer, kernel in kernel_differences(model, quantized))


def kernel_differences(model: Any, quantized: Any) -> list[tuple[Any, Matrix]]:
    """Each layer of `model` that has weights, with Q(W) - W; arguments and error as for `difference_norms`."""
    names = [layer.name for layer in weighted_layers(model)]
    twins = {layer.name: layer for layer in weighted_layers(quantized)}
    if names != list(twins):
        raise UserError(f"||ΔW|| needs two models with the same layers; got {names} and {list(twins)}")
    return [(layer, effective_kernel(twins[layer.name]) - effective_kernel(layer)) for layer in weighted_layers(model)]


def weight_norms(model: Any) -> tuple[LayerNorms, ...]:
    """||W|| of every layer with weights."""
    return tuple(layer_norms(layer, effective_kernel(layer)) for layer in weighted_layers(model))


def effective_kernel(layer: Any) -> Matrix:
    """The kernel that multiplies: after the quantizer, in a QKeras layer."""
    kernel = kernel_of(layer)
    depthwise = hasattr(layer, "depthwise_kernel")
    quantizer = getattr(layer, "depthwise_quantizer_internal" if depthwise else "kernel_quantizer_internal", None)
    values = kernel if quantizer is None else quantizer(kernel)
    return np.asarray(values, np.float64)


def matrix_norms(matrix: Matrix) -> Norms:
    """Exact norms of a matrix that acts from the left, W z."""
    if not matrix.size:
        return Norms(0.0, 0.0, 0.0)
    size = np.abs(matrix)
    return Norms(float(size.sum(axis=0).max()), float(np.linalg.norm(matrix, 2)), float(size.sum(axis=1).max()))


def reshaped_matrix(kernel: Matrix) -> Matrix:
    """(kh, kw, in, out) -> (out, kh kw in)."""
    return np.asarray(kernel.reshape(-1, kernel.shape[-1]).T)


def convolve(image: Matrix, kernel: Matrix, where: Convolution) -> Matrix:
    """The layer's linear map, as TensorFlow computes it (no flip): (H, W, in) -> (H', W', out)."""
    padded = np.pad(image, (*where.padding, (0, 0)))
    height, width = _output_size(kernel, where)
    out = np.zeros((height, width, kernel.shape[-1]))
    for tap, window in _taps(kernel, where, height, width):
        out += padded[window] @ kernel[tap]
    return out


def transposed_convolve(image: Matrix, kernel: Matrix, where: Convolution) -> Matrix:
    """The adjoint map: (H', W', out) -> (H, W, in)."""
    height, width = image.shape[:2]
    (top, bottom), (left, right) = where.padding
    rows, columns, channels = where.input_shape
    padded = np.zeros((rows + top + bottom, columns + left + right, channels))
    for tap, window in _taps(kernel, where, height, width):
        padded[window] += image @ kernel[tap].T
    return padded[top : top + rows, left : left + columns]


def operator_norms(kernel: Matrix, where: Convolution) -> Norms:
    """Norms of the convolution as a map of whole images; sums are exact, the singular value to 1e-10."""
    out_shape = (*_output_size(kernel, where), kernel.shape[-1])
    size = np.abs(kernel)
    column_sums = transposed_convolve(np.ones(out_shape), size, where)
    row_sums = convolve(np.ones(where.input_shape), size, where)
    return Norms(float(column_sums.max()), _largest_singular_value(kernel, where, out_shape), float(row_sums.max()))


def convolution_of(layer: Any) -> Convolution:
    """Geometry of a Keras convolution layer that has been built."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UserError(f"layer {layer.name}: only data_format channels_last is supported")
    shape, strides, dilation = tuple(layer.input_shape[1:]), tuple(layer.strides), tuple(layer.dilation_rate)
    sizes = tuple(layer.kernel_size)
    if len(shape) == 2:
        shape, strides, dilation, sizes = (1, *shape), (1, *strides), (1, *dilation), (1, *sizes)
    if None in shape:
        raise UserError(f"layer {layer.name}: the operator norm needs a fixed input size; got {layer.input_shape}")
    top_bottom, left_right = (
        _padding(layer.padding, shape[axis], sizes[axis], strides[axis], dilation[axis]) for axis in (0, 1)
    )
    return Convolution(shape, strides, dilation, (top_bottom, left_right))


def layer_norms(layer: Any, kernel: Matrix) -> LayerNorms:
    """Norms of any kernel in the place of a layer's own."""
    reshaped = operator = reshaped_norms(layer, kernel)
    if kernel.ndim > 2:
        operator = operator_norms(_full_kernel(layer, kernel), convolution_of(layer))
    return LayerNorms(layer.name, type(layer).__name__, reshaped, operator)


def reshaped_norms(layer: Any, kernel: Matrix) -> Norms:
    """Norms of any kernel in the place of a layer's own, as a (channels out) x (patch) matrix."""
    if kernel.ndim == 2:
        return matrix_norms(kernel.T)
    return matrix_norms(reshaped_matrix(_full_kernel(layer, kernel)))


def _full_kernel(layer: Any, kernel: Matrix) -> Matrix:
    """The kernel as (kh, kw, in, out), with the zeros that depthwise and grouped convolutions leave out."""
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    channels = int(layer.input_shape[-1])
    if hasattr(layer, "depthwise_kernel"):
        *taps, channels, multiplier = kernel.shape
        kernel, groups = kernel.reshape(*taps, 1, channels * multiplier), channels
    else:
        groups = int(getattr(layer, "groups", 1))
    if groups == 1:
        return kernel
    full = np.zeros((*kernel.shape[:2], channels, kernel.shape[-1]))
    inputs, outputs = channels // groups, kernel.shape[-1] // groups
    for group in range(groups):
        rows, columns = slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)
        full[:, :, rows, columns] = kernel[..., columns]
    return full


def _padding(mode: str, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's zeros before and after one axis."""
    reach = (kernel - 1) * dilation
    if mode == "valid":
        return 0, 0
    if mode == "causal":
        return (reach, 0)
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def _output_size(kernel: Matrix, where: Convolution) -> tuple[int, int]:
    height, width = (
        (where.input_shape[axis] + sum(where.padding[axis]) - (kernel.shape[axis] - 1) * where.dilation[axis] - 1)
        // where.strides[axis]
        + 1
        for axis in (0, 1)
    )
    return height, width


def _taps(
    kernel: Matrix, where: Convolution, height: int, width: int
) -> list[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Each position in the kernel, and the pixels of the padded image that it meets."""

    def window(axis: int, tap: int, count: int) -> slice:
        start, stride = tap * where.dilation[axis], where.strides[axis]
        return slice(start, start + (count - 1) * stride + 1, stride)

    rows, columns = kernel.shape[:2]
    return [((i, j), (window(0, i, height), window(1, j, width))) for i in range(rows) for j in range(columns)]


def _largest_singular_value(kernel: Matrix, where: Convolution, out_shape: tuple[int, int, int]) -> float:
    from scipy.sparse.linalg import ArpackError, LinearOperator, svds

    if not kernel.any():  # ARPACK cannot start on the zero map
        return 0.0
    inputs, outputs = int(np.prod(where.input_shape)), int(np.prod(out_shape))
    operator = LinearOperator(
        (outputs, inputs),
        matvec=lambda x: convolve(x.reshape(where.input_shape), kernel, where).ravel(),
        rmatvec=lambda y: transposed_convolve(y.reshape(out_shape), kernel, where).ravel(),
        dtype=np.float64,
    )
    if min(inputs, outputs) <= SMALL:
        small_side = operator.T @ np.eye(outputs) if outputs <= inputs else operator @ np.eye(inputs)
        return float(np.linalg.norm(small_side, 2))
    start = np.random.default_rng(0).standard_normal(min(inputs, outputs))
    try:
        found = svds(operator, k=1, v0=start, tol=SVD_TOLERANCE, maxiter=10_000, return_singular_vectors=False)
    except ArpackError:  # few distinct singular values, as of a scaled identity: the Krylov space ends too soon
        return _power_iteration(operator, np.random.default_rng(0).standard_normal(inputs))
    return float(found.max())


def _power_iteration(operator: Any, vector: NDArray[np.float64]) -> float:
    """The largest singular value, for maps with few distinct ones: there it converges in a few steps."""
    value = 0.0
    for _ in range(1000):
        vector = operator.rmatvec(operator.matvec(vector / np.linalg.norm(vector)))
        previous, value = value, float(np.sqrt(np.linalg.norm(vector)))
        if abs(value - previous) <= SVD_TOLERANCE * value:
            break
    return value
