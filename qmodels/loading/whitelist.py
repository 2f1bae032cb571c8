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
    "Normalization".split()
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


def refuse_code(node: Any, path: Path) -> None:
    """Go through a model's configuration.

    Raises:
        UserError: it names a class or module that is not on the list, or one that carries code.
    """
    if isinstance(node, dict):
        _check_class(node, path)
        for key, child in node.items():
            if key == "compile_config":  # the optimizer: never built
                continue
            if isinstance(child, str) and str(key).endswith(("quantizer", "activation")):
                _check_call(str(key), child, path)
            refuse_code(child, path)
    elif isinstance(node, list):
        for child in node:
            refuse_code(child, path)


def _check_class(node: dict[str, Any], path: Path) -> None:
    if "class_name" not in node and "module" not in node:
        return
    name, module, inner = str(node.get("class_name")), node.get("module"), node.get("config")
    if name in CODE:
        layer = inner.get("name", name) if isinstance(inner, dict) else name
        raise UserError(f"{path}: layer {layer!r} is a {name}, which would run code from the file; it is not loaded")
    if isinstance(module, str) and module.split(".")[0] not in TRUSTED_PACKAGES:
        raise UserError(f"{path}: {name!r} comes from module {module!r}; only Keras and QKeras classes are loaded")
    # a function is {"class_name": "function", "config": "relu"}
    named, allowed = (str(inner), FUNCTIONS) if name == "function" else (name, CLASSES)
    for item in (named, str(node.get("registered_name") or named)):
        if "class_name" in node and item not in allowed:
            raise UserError(
                f"{path}: {item!r} is no class or function of Keras or QKeras that is loaded here; its code would come "
                f"from elsewhere"
            )


def _check_call(key: str, text: str, path: Path) -> None:
    found = _CALL.fullmatch(text)
    name = found[1] if found else text
    if name not in QKERAS | FUNCTIONS:
        raise UserError(f"{path}: {key} {text[:100]!r} names no quantizer or activation of Keras or QKeras")
