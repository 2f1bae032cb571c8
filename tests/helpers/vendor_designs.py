"""hls4ml designs whose vendor reports are public, rebuilt with drawn weights: the trained ones are not published.

`tests/hw/data/vendor_reports.json` holds the numbers and their sources.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hw.generate.convert import legacy_keras
from qmodels.runtime import runtime

REPORTS = Path(__file__).parent.parent / "hw" / "data" / "vendor_reports.json"


def vendor_reports() -> list[dict[str, Any]]:
    """One entry a design: what was built, with which tool, what the report says, where it is."""
    found: list[dict[str, Any]] = json.loads(REPORTS.read_text())["designs"]
    return found


def design_graph(design: dict[str, Any], seed: int = 0) -> Any:
    """hls4ml's graph of a design, with the 16-bit accumulators that hls4ml used when the reports were made."""
    model = MODELS[design["network"]](design["weight_bits"])
    _draw_weights(model, design["share_of_zero_weights"], np.random.default_rng(seed))
    with legacy_keras(), contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        config = config_from_keras_model(model, granularity="name", backend="Vivado")
        quantized = design["weight_bits"] < 16
        for entry in config["LayerName"].values():
            precision = entry.get("Precision")
            if isinstance(precision, dict) and ("weight" in precision or not quantized):
                precision |= {key: "fixed<16,6>" for key in ("accum", "result") if precision.get(key) == "auto"}
        return convert_from_keras_model(
            model, hls_config=config, backend="Vivado", io_type=design["io_type"], output_dir=folder
        )


def _draw_weights(model: Any, zeros: float, rng: np.random.Generator) -> None:
    """Normal, He-scaled, the smallest ones pruned."""
    for layer in model.layers:
        weights = layer.get_weights()
        if weights:
            kernel = rng.normal(size=weights[0].shape) * np.sqrt(2 / np.prod(weights[0].shape[:-1]))
            kernel[np.abs(kernel) < np.quantile(np.abs(kernel), zeros)] = 0
            layer.set_weights([kernel, rng.normal(size=weights[1].shape) * 0.1])


def _jet_tagger(bits: int) -> Any:
    """16-64-32-32-5: the network of hls4ml's tutorials."""
    keras = runtime().keras
    model = keras.Sequential([keras.Input((16,), name="x")])
    for index, units in enumerate((64, 32, 32), start=1):
        model.add(_weighted("Dense", bits, units, name=f"fc{index}"))
        model.add(_relu(bits, f"relu{index}"))
    model.add(_weighted("Dense", bits, 5, name="scores"))
    model.add(keras.layers.Activation("softmax", name="softmax"))
    return model


def _svhn_cnn(bits: int) -> Any:
    """Three convolutions and three dense layers on 32x32x3: the CNN of hls4ml's tutorials."""
    keras = runtime().keras
    model = keras.Sequential([keras.Input((32, 32, 3), name="x")])
    for index, filters in enumerate((16, 16, 24), start=1):
        model.add(_weighted("Conv2D", bits, filters, 3, name=f"conv{index}"))
        model.add(_relu(bits, f"relu{index}"))
        model.add(keras.layers.MaxPooling2D(name=f"pool{index}"))
    model.add(keras.layers.Flatten(name="flatten"))
    for index, units in enumerate((42, 64), start=4):
        model.add(_weighted("Dense", bits, units, name=f"fc{index}"))
        model.add(_relu(bits, f"relu{index}"))
    model.add(keras.layers.Dense(10, name="scores"))
    model.add(keras.layers.Activation("softmax", name="softmax"))
    return model


MODELS: dict[str, Callable[[int], Any]] = {"jet tagger": _jet_tagger, "SVHN CNN": _svhn_cnn}


def _weighted(kind: str, bits: int, *sizes: int, name: str) -> Any:
    keras, q = runtime().keras, runtime().qkeras
    if bits == 16:
        return getattr(keras.layers, kind)(*sizes, name=name)
    quantizers = {key: q.quantized_bits(bits, 0, alpha=1) for key in ("kernel_quantizer", "bias_quantizer")}
    return getattr(q, f"Q{kind}")(*sizes, name=name, **quantizers)


def _relu(bits: int, name: str) -> Any:
    if bits == 16:
        return runtime().keras.layers.Activation("relu", name=name)
    return runtime().qkeras.QActivation(f"quantized_relu({bits})", name=name)
