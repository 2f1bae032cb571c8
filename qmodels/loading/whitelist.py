"""Which classes a model file may name. Keras imports what a file tells it to: every name is checked before it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qmodels.errors import UserError

#: Where classes may come from; Keras would import any module that the file names.
TRUSTED_PACKAGES = frozenset({"keras", "tf_keras", "qkeras", "builtins"})
#: Layers that carry code in the file.
CODE = frozenset({"Lambda", "SlicingOpLambda", "TFOpLambda", "__lambda__"})

_POOLING = {f"{scope}{kind}Pooling{n}D" for scope in ("", "Global") for kind in ("Max", "Average") for n in (1, 2, 3)}
_LAYERS = set(
    "InputLayer Dense Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D "
    "Conv1DTranspose Conv2DTranspose Activation ReLU LeakyReLU PReLU ELU Softmax ThresholdedReLU BatchNormalization "
    "LayerNormalization Flatten Reshape Permute RepeatVector Dropout SpatialDropout1D SpatialDropout2D GaussianNoise "
    "GaussianDropout AlphaDropout ActivityRegularization ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D "
    "UpSampling1D UpSampling2D Add Subtract Multiply Average Maximum Minimum Concatenate Dot TimeDistributed "
    "Bidirectional SimpleRNN SimpleRNNCell LSTM LSTMCell GRU GRUCell RNN Embedding Masking Rescaling "
    "Normalization RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast".split()
)
_SETTINGS = set(
    "Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotNormal GlorotUniform "
    "HeNormal HeUniform LecunNormal LecunUniform Orthogonal Identity L1 L2 L1L2 OrthogonalRegularizer MaxNorm NonNeg "
    "UnitNorm MinMaxNorm Policy __tuple__".split()
)
#: QKeras' layers, quantizers and constraints.
QKERAS = frozenset(
    "QDense QConv1D QConv2D QConv2DTranspose QDepthwiseConv2D QSeparableConv1D QSeparableConv2D QActivation "
    "QAdaptiveActivation QBatchNormalization QConv2DBatchnorm QDepthwiseConv2DBatchnorm "
    "QAveragePooling2D QGlobalAveragePooling2D QSimpleRNN QSimpleRNNCell QLSTM QLSTMCell QGRU QGRUCell QBidirectional "
    "QInitializer Clip quantized_bits bernoulli ternary stochastic_ternary binary stochastic_binary "
    "quantized_relu quantized_ulaw quantized_tanh quantized_sigmoid quantized_po2 quantized_relu_po2 "
    "quantized_hswish".split()
)
#: Functions that a file may name where Keras or QKeras takes one.
FUNCTIONS = frozenset(
    "linear relu relu6 leaky_relu elu selu gelu softplus softsign tanh sigmoid hard_sigmoid exponential swish softmax "
    "binary_sigmoid binary_tanh hard_tanh smooth_sigmoid smooth_tanh".split()
)
CLASSES = frozenset({"Functional", "Model", "Sequential"} | _LAYERS | _POOLING | _SETTINGS | QKERAS)
#: `name` or `name(...)`, as QKeras reads quantizers; what it finds under that name, it calls.
_CALL = re.compile(r"\s*([^(\s]*)\s*(\(.*)?", re.DOTALL)


#: What to do about classes that people bring, by how their name begins.
_KNOWN_ELSEWHERE = {
    "QDenseBatchnorm": "QKeras 0.9.0 lacks it: use QDense, with the batch normalization folded into its weights",
    "PruneLowMagnitude": "save the model after tfmot.sparsity.keras.strip_pruning(model)",
    "ClusterWeights": "save the model after tfmot.clustering.keras.strip_clustering(model)",
    "QuantizeWrapper": "quantize with QKeras (QDense, QConv2D, QActivation) instead of TensorFlow's toolkit",
    "QuantizeLayer": "quantize with QKeras (QDense, QConv2D, QActivation) instead of TensorFlow's toolkit",
}
_HGQ = "it is a layer of HGQ"
_ACCEPTED = (
    "accepted are the layers of Keras 2 and QKeras 0.9, such as QDense, QConv2D, QActivation and BatchNormalization"
)
_FROM_HLS4ML = "if hls4ml converts it in your own Python, give its graph to Accelerator.from_hls4ml"


def refuse_code(architecture: Any, path: Path) -> None:
    """Go through a model's configuration.

    Args:
        architecture: as Keras stores it.
        path: of the file, for messages.

    Raises:
        UserError: it names a class or module that is not on the list, or one that carries code; the layer is named.
    """
    try:
        _refuse(architecture, path, f"{path}")
    except RecursionError:
        raise UserError(f"{path}: its objects are nested too deeply to be those of a model; it is not loaded") from None


def _refuse(node: Any, path: Path, where: str) -> None:
    """`where` is the file, and the layer around the node."""
    if isinstance(node, dict):
        where = check_class(node, path, where)
        for key, child in node.items():
            if key == "compile_config":  # the optimizer: never built
                continue
            if isinstance(child, str) and str(key).endswith(("quantizer", "activation")):
                _check_call(str(key), child, where)
            _refuse(child, path, where)
    elif isinstance(node, list):
        for child in node:
            _refuse(child, path, where)


def check_class(node: dict[str, Any], path: Path, where: str) -> str:
    """Check the class of one object, not what is inside it.

    Returns:
        how messages name what is inside it: by this layer if it is one, else by `where`.
    """
    if "class_name" not in node and "module" not in node:
        return where
    name, module, inner = str(node.get("class_name")), node.get("module"), node.get("config")
    if isinstance(inner, dict) and "name" in inner and "layers" not in inner:
        where = f"{path}: layer {str(inner['name'])!r}"
    if name in CODE:
        layer = inner.get("name", name) if isinstance(inner, dict) else name
        raise UserError(f"{path}: layer {layer!r} is a {name}, which would run code from the file; it is not loaded")
    if isinstance(module, str) and module.split(".")[0] not in TRUSTED_PACKAGES:
        raise UserError(
            f"{where}: {name!r} comes from module {module!r}; only Keras and QKeras classes are loaded"
            f"{_mend(name, module)}"
        )
    # a function is {"class_name": "function", "config": "relu", "registered_name": "function"}
    named, allowed = (str(inner), FUNCTIONS) if name == "function" else (name, CLASSES)
    registered = node.get("registered_name")
    for item in (named, named if not registered or registered == name == "function" else str(registered)):
        if "class_name" in node and item not in allowed:
            raise UserError(
                f"{where}: {item!r} is no class or function of Keras or QKeras that is loaded here; its code would "
                f"come from elsewhere{_mend(item, '')}"
            )
    return where


def _mend(name: str, module: str) -> str:
    """How a message about a foreign class ends: what is accepted, and the ways around it."""
    known = next((mend for start, mend in _KNOWN_ELSEWHERE.items() if name.startswith(start)), None)
    if known is None and "hgq" in (module.split(".")[0].lower(), name.split(">")[0].lower()):
        known = _HGQ
    return "".join(f"; {part}" for part in (known, _ACCEPTED, _FROM_HLS4ML) if part)


def _check_call(key: str, text: str, where: str) -> None:
    found = _CALL.fullmatch(text)
    name = found[1] if found else text
    if name not in QKERAS | FUNCTIONS:
        raise UserError(f"{where}: {key} {text[:100]!r} names no quantizer or activation of Keras or QKeras")
