"""Models saved by Keras 3, written down as Keras 2 layers that compute the same.

Only the description is translated here; weights have the same order in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qmodels.errors import UserError
from qmodels.loading.calls import first_call
from qmodels.loading.flat import TRAINING_ONLY
from qmodels.loading.tree import Json, is_model, nodes
from qmodels.loading.whitelist import check_class

_CONV = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "use_bias")
_POOL = ("pool_size", "strides", "padding", "data_format")
#: Settings that are kept, by layer; all have the same meaning in Keras 2.
LAYERS: dict[str, tuple[str, ...]] = {
    "InputLayer": ("sparse", "ragged"),
    "Dense": ("units", "activation", "use_bias"),
    **dict.fromkeys(("Conv1D", "Conv2D"), ("filters", "groups", *_CONV)),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("depth_multiplier", *_CONV)),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("filters", "depth_multiplier", *_CONV)),
    **{f"{kind}Pooling{n}D": _POOL for kind in ("Max", "Average") for n in (1, 2)},
    **{f"Global{kind}Pooling{n}D": ("data_format", "keepdims") for kind in ("Max", "Average") for n in (1, 2)},
    "BatchNormalization": ("axis", "momentum", "epsilon", "center", "scale"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    "Softmax": ("axis",),
    "Flatten": ("data_format",),
    "Reshape": ("target_shape",),
    "Permute": ("dims",),
    "Dropout": ("rate", "noise_shape"),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), ()),
    "Concatenate": ("axis",),
    "Rescaling": ("scale", "offset"),
    "Normalization": ("axis", "mean", "variance", "invert"),
    **dict.fromkeys(TRAINING_ONLY, ()),
    "ZeroPadding1D": ("padding",),
    "ZeroPadding2D": ("padding", "data_format"),
}
#: Keras 3's name of an activation -> Keras 2's; others mean something else there, or nothing.
_ACTIVATIONS = {name: name for name in "linear relu relu6 tanh sigmoid softmax softplus softsign elu selu gelu".split()}
_ACTIVATIONS |= {"exponential": "exponential", "leaky_relu": "leaky_relu", "silu": "swish", "swish": "swish"}
#: Settings that a model which only predicts does not use.
_TRAINING = ("_initializer", "_regularizer", "_constraint")
_UNUSED = ("name", "trainable", "dtype", "seed", "optional", "batch_shape", "renorm_momentum", "renorm_clipping")
_SAVE = (
    "build the model with Keras 2 (TF_USE_LEGACY_KERAS=1, import tf_keras) or QKeras, set its weights and save it "
    "with model.save('own.keras'); for a graph that hls4ml made of it: Accelerator.from_hls4ml"
)


def is_keras3(architecture: Json, version: str | None) -> bool:
    """Whether Keras 3 wrote an architecture: by the file's own word, or by names that only Keras 3 uses."""
    if version is not None and version.split(".")[0].isdigit():
        return int(version.split(".")[0]) >= 3
    return any(
        isinstance(node, dict) and ("batch_shape" in node or node.get("class_name") == "DTypePolicy")
        for node in nodes(architecture)
    )


def to_keras2(architecture: Json, path: Path) -> Json:
    """The same model as Keras 2 would describe it.

    Raises:
        UserError: a layer, or one of its settings, has no equal in Keras 2.
    """
    return _model(architecture, path)


def _model(model: Json, path: Path) -> Json:
    config = model["config"]
    level: Json = {"name": config["name"], "layers": [_layer(layer, path) for layer in config["layers"]]}
    for end in ("input_layers", "output_layers"):
        if end in config:
            level[end] = _ends(config[end])
    # Keras 3 counts a layer's calls from 0, Keras 2 those of a model with an input from 1
    first = {str(layer["config"]["name"]): first_call(layer) for layer in level["layers"]}
    tensors = [tensor for layer in level["layers"] for call in layer.get("inbound_nodes", []) for tensor in call]
    for tensor in (*tensors, *level.get("input_layers", []), *level.get("output_layers", [])):
        tensor[1] += first.get(tensor[0], 0)
    return {"class_name": "Sequential" if model["class_name"] == "Sequential" else "Functional", "config": level}


def _ends(tensors: Any) -> list[Any]:
    """`[name, 0, 0]`, a list of such, or a dict of such: always a list of them."""
    if isinstance(tensors, dict):
        return [tensor for value in tensors.values() for tensor in _ends(value)]
    if tensors and isinstance(tensors[0], str):
        return [list(tensors)]
    return [tensor for value in tensors for tensor in _ends(value)]


def _layer(layer: Json, path: Path) -> Json:
    name = str(layer["config"]["name"])
    where = f"{path}: a Keras 3 file: layer {name!r}"
    if not is_model(layer) and layer["class_name"] not in LAYERS:
        check_class(layer, path, where)  # one that carries code, or is of another package, is told as such
        raise UserError(
            f"{where} is a {layer['class_name']}, which is not read; read are: {', '.join(LAYERS)}; else {_SAVE}"
        )
    translated = _model(layer, path) if is_model(layer) else _single(layer, where)
    if "inbound_nodes" in layer:
        trains = layer["class_name"] in TRAINING_ONLY  # augmentation is called with training=True by default
        calls = [_call(node | {"kwargs": {}} if trains else node, where) for node in layer["inbound_nodes"]]
        translated |= {"name": name, "inbound_nodes": calls}
    return translated


def _single(layer: Json, where: str) -> Json:
    kind, config = str(layer["class_name"]), layer["config"]
    if kind in TRAINING_ONLY:  # left out in the end; this one has no weights and settings that both know
        noise = {"name": config["name"], "trainable": True, "dtype": "float32", "stddev": 0.0}
        return {"class_name": "GaussianNoise", "config": noise}
    settings: Json = {"name": config["name"], "trainable": config.get("trainable", True)}
    settings["dtype"] = _dtype(config.get("dtype"), where)
    for key, value in config.items():
        if key in LAYERS[kind]:
            settings[key] = _activation(value, where) if key == "activation" else value
        elif value not in (None, False, "channels_last") and key not in _UNUSED and not key.endswith(_TRAINING):
            raise UserError(f"{where} ({kind}) has {key}={str(value)[:60]}, which Keras 2 lacks; {_SAVE}")
    if kind == "InputLayer":
        settings |= {"batch_input_shape": config["batch_shape"]}
        del settings["trainable"]
    if kind == "BatchNormalization":
        settings["fused"] = False  # Keras 3 has no fused kernel, which rounds otherwise
    if kind == "LeakyReLU":
        settings["alpha"] = settings.pop("negative_slope")
    return {"class_name": kind, "config": settings}


def _dtype(policy: Any, where: str) -> str:
    name = policy["config"]["name"] if isinstance(policy, dict) else policy or "float32"
    if name != "float32":
        raise UserError(f"{where} computes in {name}; only float32 is read; {_SAVE}")
    return "float32"


def _activation(value: Any, where: str) -> str:
    name = value.get("config") if isinstance(value, dict) and value.get("class_name") == "function" else value
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        told = value.get("class_name") if isinstance(value, dict) else value
        raise UserError(
            f"{where} has activation {told!r}, which is another one in Keras 2; read are: {', '.join(_ACTIVATIONS)}; "
            f"else {_SAVE}"
        )
    return _ACTIVATIONS[name]


def _call(node: Json, where: str) -> list[Any]:
    """A layer's call on tensors: Keras 3 keeps arguments as they are, Keras 2 a list of tensors."""
    options = {key: value for key, value in node.get("kwargs", {}).items() if value not in (None, False)}
    if options:
        raise UserError(f"{where} is called with {', '.join(options)}; only calls on tensors alone are read; {_SAVE}")
    return [[*tensor, {}] for tensor in _tensors(node["args"], where)]


def _tensors(value: Any, where: str) -> list[list[Any]]:
    if isinstance(value, list):
        return [tensor for child in value for tensor in _tensors(child, where)]
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, node, tensor = value["config"]["keras_history"]
        return [[name, node, tensor]]
    raise UserError(f"{where} is called on {str(value)[:60]}; only calls on tensors alone are read; {_SAVE}")
