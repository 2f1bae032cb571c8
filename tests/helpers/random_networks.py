"""Random networks with random formats, many in one hls4ml model, and their C simulation.

One compile of hls4ml's generated C++ takes seconds however small the model, so every model here is a row of
independent branches, each its own input, layers, formats and output.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.generate.convert import legacy_keras
from qmodels.formats import FixedPoint, Overflow, Rounding
from qmodels.runtime import runtime
from tests.helpers.kept import compile_in, compile_once

Rng = np.random.Generator
#: The code is run on a handful of samples: compile time is what counts. NDEBUG: ap_fixed's assignment reads a bit that
#: it then does not use, and an assertion stops csim there (docs/hls4ml_findings.md).
FLAGS = ("-O0", "-fPIC", "-std=c++14", "-fno-gnu-unique", "-w", "-DNDEBUG")


#: hls4ml's graphs cannot express WRAP_SM (docs/hls4ml_findings.md); it is tested on numbers alone.
OVERFLOWS = [mode for mode in Overflow if mode is not Overflow.WRAP_SM]


def random_format(rng: Rng, widest: int = 18, narrowest: int = 2) -> FixedPoint:
    """Any width up to `widest` (rarely to 40), integer bits from below 0 to beyond the width, every mode."""
    width = int(rng.integers(narrowest, widest + 1))
    if rng.random() < 0.05:
        width = int(rng.integers(widest, 41))
    integer = (
        int(rng.integers(-2, width + 3)) if rng.random() < 0.3 else int(rng.integers(1, max(2, min(width, 8) + 1)))
    )
    signed = bool(rng.random() < 0.75)
    overflow = Overflow.WRAP if rng.random() < 0.5 else OVERFLOWS[rng.integers(4)]
    rounding = Rounding.TRN if rng.random() < 0.4 else list(Rounding)[rng.integers(7)]
    return FixedPoint(width, integer, signed, rounding, overflow)


@dataclass
class Branch:
    """One random network: Keras tensors, and what hls4ml is told about its layers."""

    source: Any
    output: Any
    settings: dict[str, dict[str, Any]]
    input_format: FixedPoint
    layers: list[Any]
    seed: int


class _Builder:
    """Draws layers until the branch is long enough."""

    def __init__(self, seed: int, name: str, stream: bool, formats: list[FixedPoint]) -> None:
        self.rng = np.random.default_rng(seed)
        self.formats = formats
        self.seed, self.name, self.stream = seed, name, stream
        self.settings: dict[str, dict[str, Any]] = {}
        self.layers: list[Any] = []
        self.keras = runtime().keras.layers

    def add(self, layer: Any, x: Any, **settings: Any) -> Any:
        """Apply a layer, with its hls4ml settings."""
        self.layers.append(layer)
        self.settings[layer.name] = settings
        return layer(x)

    def label(self, kind: str) -> str:
        return f"{self.name}_{kind}{len(self.layers)}"

    def format(self, widest: int = 18, narrowest: int = 2) -> str:
        """One of the model's formats: the fewer there are, the fewer templates g++ instantiates."""
        fits = [fmt for fmt in self.formats if narrowest <= fmt.width <= widest]
        if not fits or self.rng.random() < 0.1:
            return str(random_format(self.rng, widest, narrowest))
        return str(fits[self.rng.integers(len(fits))])

    def linear(self, build: Any, x: Any, kind: str, weights: tuple[str, ...] = ("weight",), products: int = 0) -> Any:
        """A layer with weights, each number in a format of its own; half of the accumulators hold every product."""
        precision = {name: self.format(widest=10) for name in weights} | {"bias": self.format(widest=12)}
        if self.rng.random() < 0.5:
            precision["accum"] = str(FixedPoint(32, 14))
        elif self.rng.random() < 0.5:
            precision["accum"] = self.format(widest=24, narrowest=6)
        if self.rng.random() < 0.7:
            precision["result"] = self.format()
        settings: dict[str, Any] = {"Precision": precision}
        if products and self.rng.random() < 0.35:
            # more than `products` names a C++ class that does not exist (docs/hls4ml_findings.md)
            divisors = [n for n in range(1, products + 1) if products % n == 0]
            settings |= {"Strategy": "Resource", "ReuseFactor": int(self.rng.choice(divisors))}
        else:
            settings |= {"Strategy": "Latency", "ReuseFactor": 1}
        return self.add(build(name=self.label(kind)), x, **settings)

    def simple(self, layer: Any, x: Any, accum: bool = False) -> Any:
        """A layer without weights."""
        precision = {"result": self.format()} if self.rng.random() < 0.6 else {}
        if accum:
            precision["accum"] = self.format(widest=24, narrowest=8)
        return self.add(layer, x, **({"Precision": precision} if precision else {}))

    def activation(self, x: Any) -> Any:
        kinds = [
            "relu",
            "relu6",
            "linear",
            "sigmoid",
            "tanh",
            "softplus",
            "softsign",
            "hard_sigmoid",
            "leaky",
            "elu",
            "selu",
            "prelu",
            "thresholded",
        ]
        if self.stream:
            kinds.remove("relu6")
        kind = str(self.rng.choice(kinds, p=[0.4] + [0.6 / (len(kinds) - 1)] * (len(kinds) - 1)))
        settings: dict[str, Any] = {"Precision": {"result": self.format()}}
        name, keras = self.label("act"), self.keras
        if kind in ("sigmoid", "tanh", "softplus", "softsign", "elu", "selu"):
            settings |= {"TableSize": int(self.rng.choice([256, 1024])), "TableT": self.format(widest=18, narrowest=6)}
        if kind == "relu6":
            return self.add(keras.ReLU(max_value=6, name=name), x, **settings)
        if kind == "leaky":
            return self.add(keras.LeakyReLU(alpha=float(self.rng.choice([0.25, 0.3])), name=name), x, **settings)
        if kind == "thresholded":
            return self.add(keras.ThresholdedReLU(theta=float(self.rng.choice([0.5, 1.3])), name=name), x, **settings)
        if kind == "prelu":
            return self.add(keras.PReLU(name=name), x, **settings)
        return self.add(keras.Activation(kind, name=name), x, **settings)

    def quantizer(self, x: Any) -> Any:
        """A QKeras activation in the middle."""
        qkeras, bits = runtime().qkeras, int(self.rng.integers(2, 9))
        integer = int(self.rng.integers(0, bits))
        kind = (
            qkeras.quantized_relu(bits, integer)
            if self.rng.random() < 0.6
            else qkeras.quantized_bits(bits, integer, alpha=1)
        )
        return self.add(qkeras.QActivation(kind, name=self.label("q")), x)

    def vector(self, x: Any) -> Any:
        """One more layer on (n,)."""
        draw, keras = self.rng.random(), self.keras
        if draw < 0.45:
            units = int(self.rng.integers(1, 9))
            return self.linear(lambda name: keras.Dense(units, name=name), x, "dense", products=int(x.shape[1]))
        if draw < 0.55:
            return self.linear(lambda name: keras.BatchNormalization(name=name), x, "bn", ("scale",))
        if draw < 0.7:
            return self.quantizer(x)
        if draw < 0.76:
            return self.softmax(x)
        return self.activation(x)

    def softmax(self, x: Any) -> Any:
        """Softmax in one of hls4ml's four ways."""
        name, rng = self.label("softmax"), self.rng
        kind = str(rng.choice(["Stable", "Latency", "Legacy", "Argmax"]))
        table = self.format(widest=18, narrowest=10)
        settings = {
            "Precision": {"result": self.format()},
            "Implementation": kind.lower(),
            "ExpTableT": table,
            "InvTableT": table,
            "TableSize": 256,
        }
        return self.add(self.keras.Activation("softmax", name=name), x, **settings)

    def image(self, x: Any) -> Any:  # noqa: C901 - a list of choices
        """One more layer on (h, w, c)."""
        draw, keras, rng = self.rng.random(), self.keras, self.rng
        height, width = int(x.shape[1]), int(x.shape[2])
        kernel = (int(rng.integers(1, min(3, height) + 1)), int(rng.integers(1, min(3, width) + 1)))
        # in io_stream hls4ml ignores the vertical stride of kernels one high (docs/hls4ml_findings.md)
        stride = 1 if self.stream and kernel[0] == 1 else int(rng.integers(1, 3))
        padding = str(rng.choice(["same", "valid"]))
        if draw < 0.35:
            filters = int(rng.integers(1, 6))
            return self.linear(
                lambda name: keras.Conv2D(filters, kernel, stride, padding, name=name),
                x,
                "conv",
                products=kernel[0] * kernel[1] * int(x.shape[3]),
            )
        if draw < 0.43:
            return self.linear(lambda name: keras.DepthwiseConv2D(kernel, stride, padding, name=name), x, "dw")
        if draw < 0.5:
            filters = int(rng.integers(1, 5))
            return self.linear(
                lambda name: keras.SeparableConv2D(filters, kernel, stride, padding, name=name),
                x,
                "sep",
                ("depthwise", "pointwise"),
            )
        if draw < 0.64:
            pool = keras.MaxPooling2D if rng.random() < 0.5 else keras.AveragePooling2D
            size = (min(2, height), min(2, width))
            how = "valid" if self.stream else padding
            return self.simple(pool(size, size, how, name=self.label("pool")), x, accum=True)
        if draw < 0.68:
            pool = keras.GlobalMaxPooling2D if rng.random() < 0.5 else keras.GlobalAveragePooling2D
            return self.simple(pool(name=self.label("gpool")), x, accum=True)
        if draw < 0.72:
            return self.add(keras.UpSampling2D((2, 2), name=self.label("up")), x)
        if draw < 0.77:
            return self.simple(keras.ZeroPadding2D(((1, 0), (1, 2)), name=self.label("pad")), x)
        if draw < 0.8 and not self.stream:
            return self.add(keras.Permute((2, 3, 1), name=self.label("perm")), x)
        if draw < 0.83:
            return self.linear(lambda name: keras.BatchNormalization(name=name), x, "bn", ("scale",))
        if draw < 0.88:
            return self.quantizer(x)
        return self.activation(x)

    def sequence(self, x: Any) -> Any:
        """One more layer on (w, c)."""
        draw, keras, rng = self.rng.random(), self.keras, self.rng
        width = int(x.shape[1])
        kernel, stride = int(rng.integers(1, min(3, width) + 1)), int(rng.integers(1, 3))
        padding = str(rng.choice(["same", "valid"]))
        if draw < 0.4:
            filters = int(rng.integers(1, 6))
            return self.linear(
                lambda name: keras.Conv1D(filters, kernel, stride, padding, name=name),
                x,
                "conv",
                products=kernel * int(x.shape[2]),
            )
        if draw < 0.48:
            return self.linear(lambda name: keras.DepthwiseConv1D(kernel, stride, padding, name=name), x, "dw")
        if draw < 0.64:
            pool = keras.MaxPooling1D if rng.random() < 0.5 else keras.AveragePooling1D
            how = "valid" if self.stream else padding
            return self.simple(pool(min(2, width), min(2, width), how, name=self.label("pool")), x, accum=True)
        if draw < 0.7:
            pool = keras.GlobalMaxPooling1D if rng.random() < 0.5 else keras.GlobalAveragePooling1D
            return self.simple(pool(name=self.label("gpool")), x, accum=True)
        if draw < 0.75:
            return self.simple(keras.ZeroPadding1D((2, 1), name=self.label("pad")), x)
        if draw < 0.78 and not self.stream:
            return self.add(keras.Permute((2, 1), name=self.label("perm")), x)
        if draw < 0.81:
            return self.add(keras.UpSampling1D(2, name=self.label("up")), x)
        if draw < 0.88:
            return self.quantizer(x)
        return self.activation(x)

    def merge(self, x: Any) -> Any:
        """Two ways of x, met."""
        keras = self.keras
        kinds = [
            keras.Add,
            keras.Subtract,
            keras.Multiply,
            keras.Average,
            keras.Maximum,
            keras.Minimum,
            keras.Concatenate,
        ]
        kind = kinds[self.rng.integers(len(kinds))]
        one, two = self.activation(x), self.quantizer(x) if self.rng.random() < 0.5 else self.activation(x)
        return self.simple(kind(name=self.label("merge")), [one, two])

    def build(self) -> Branch:
        """The branch."""
        rng, keras = self.rng, self.keras
        shapes = [
            (int(rng.integers(1, 12)),),
            (int(rng.integers(2, 7)), int(rng.integers(1, 5))),
            (int(rng.integers(2, 6)), int(rng.integers(2, 6)), int(rng.integers(1, 5))),
        ]
        shape = shapes[rng.integers(3)]
        fmt = random_format(rng, widest=12)
        name = f"{self.name}_in"
        source = keras.Input(shape, name=name)
        self.settings[name] = {"Precision": {"result": str(fmt)}}
        x = source
        for _ in range(int(rng.integers(1, 5))):
            if rng.random() < 0.12:
                x = self.merge(x)
            else:
                x = {1: self.vector, 2: self.sequence, 3: self.image}[len(x.shape) - 1](x)
        if len(x.shape) > 2 and rng.random() < 0.5:
            x = self.add(keras.Flatten(name=self.label("flat")), x)
            x = self.linear(lambda name: keras.Dense(3, name=name), x, "dense")
        return Branch(source, x, self.settings, fmt, self.layers, self.seed)


def _randomize(layer: Any, rng: Rng) -> None:
    weights = layer.get_weights()
    if weights:
        scale = float(rng.choice([0.3, 1.0, 4.0]))
        fresh = [rng.normal(size=w.shape) * scale for w in weights]
        if type(layer).__name__ == "BatchNormalization":
            fresh[3] = np.abs(fresh[3]) + 0.1
        layer.set_weights(fresh)


@dataclass
class RandomModel:
    """Many branches as one hls4ml model; `graph` is ready for bitsim, `csim` compiles and runs the C++."""

    graph: Any
    branches: list[Branch]
    folder: Path

    def inputs(self, samples: int, seed: int) -> list[NDArray[np.float32]]:
        """Numbers on, off and beyond each input's grid."""
        rng = np.random.default_rng(seed)
        arrays = []
        for branch in self.branches:
            shape = (samples, *branch.source.shape[1:])
            fmt = branch.input_format
            inside = rng.uniform(fmt.minimum, fmt.maximum, shape)
            on_grid = np.round(inside / fmt.lsb) * fmt.lsb
            wide = rng.normal(size=shape) * fmt.maximum * 3
            halves = on_grid + fmt.lsb * rng.choice([0.5, -0.5, 0.25], shape)
            chosen = np.choose(rng.integers(0, 5, shape), [inside, on_grid, wide, halves, np.zeros(shape)])
            arrays.append(chosen.astype(np.float32))
        return arrays

    def csim(
        self, inputs: list[NDArray[np.float32]], keep: bool = False
    ) -> tuple[list[NDArray[Any]], dict[str, NDArray[Any]]]:
        """Outputs and trace of hls4ml's own C++; `keep`: it is compiled once for all runs of the tests."""
        compile_csim(self.graph, self.folder, keep)
        with contextlib.redirect_stdout(io.StringIO()):
            outputs, trace = self.graph.trace(inputs if len(inputs) > 1 else inputs[0])
        return (outputs if isinstance(outputs, list) else [outputs]), trace


def compile_csim(graph: Any, folder: Path, keep: bool) -> None:
    """Write the project with tracing, compile it with FLAGS, and let the graph use that library as its own."""
    graph.config.trace_output = True
    with contextlib.redirect_stdout(io.StringIO()):
        graph.write()
    name = graph.config.get_project_name()
    # two headers share one include guard, so 1D and 2D depthwise convolutions exclude each other
    header = folder / "firmware" / "nnet_utils" / "nnet_sepconv1d_latency.h"
    if header.exists():
        header.write_text(header.read_text().replace("SEPARABLE_CONV2D_LATENCY", "SEPARABLE_CONV1D_LATENCY"))
    # one unit for both: each alone would parse the number types and instantiate the layers' types again
    (folder / "csim.cpp").write_text(f'#include "firmware/{name}.cpp"\n#include "{name}_bridge.cpp"\n')
    # hls4ml runs it in the folder `firmware`
    command = [*FLAGS, "-shared", "-Ifirmware/ap_types/", '-DWEIGHTS_DIR="weights"', "csim.cpp"]
    library = folder / "csim.so"
    if keep:
        compile_once(folder, command, library.name)
    else:
        compile_in(folder, command, library)
    graph._top_function_lib = ctypes.CDLL(str(library))
    graph.compile = lambda: None  # trace() would compile again with -O3


def random_model(seeds: list[int], folder: Path, stream: bool = False, backend: str = "Vitis") -> RandomModel:
    """A model with one branch a seed."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seeds[0] + 7)
    formats = [
        random_format(rng, widest, narrowest) for widest, narrowest in ((8, 2), (12, 6), (18, 8)) for _ in range(4)
    ]
    branches = [_Builder(seed, f"n{seed}", stream, formats).build() for seed in seeds]
    model = runtime().keras.Model([b.source for b in branches], [b.output for b in branches])
    for branch in branches:
        rng = np.random.default_rng(branch.seed + 1)
        for layer in branch.layers:
            _randomize(layer, rng)
    return RandomModel(to_graph(model, [b.settings for b in branches], folder, stream, backend), branches, folder)


def to_graph(
    model: Any,
    settings: list[dict[str, dict[str, Any]]],
    folder: Path,
    stream: bool = False,
    backend: str = "Vitis",
    **more: Any,
) -> Any:
    """hls4ml's graph of a Keras model, with settings a layer laid over hls4ml's own configuration."""
    with legacy_keras(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        config = config_from_keras_model(model, granularity="name", backend=backend)
        for entry in config["LayerName"].values():
            entry["Trace"] = True
        for wanted in settings:
            for name, chosen in wanted.items():
                _overlay(config["LayerName"].setdefault(name, {}), chosen)
        return convert_from_keras_model(
            model,
            hls_config=config,
            backend=backend,
            output_dir=str(folder),
            part="xcu250-figd2104-2L-e",
            io_type="io_stream" if stream else "io_parallel",
            **more,
        )


def _overlay(entry: dict[str, Any], chosen: dict[str, Any]) -> None:
    for key, value in chosen.items():
        if key == "Precision":
            if not isinstance(entry.get("Precision"), dict):
                entry["Precision"] = {}
            entry["Precision"].update(value)
        else:
            entry[key] = value
