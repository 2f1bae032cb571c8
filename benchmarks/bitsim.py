"""bitsim against everything else that computes the same network, on this machine.

Peers: hls4ml's C simulation, the quantized QKeras model's predict, float Keras, TFLite int8 with XNNPACK, alkaid's
interpreter, and the machine's own peak. Weights are random (seeded); activation formats are calibrated so that
numbers use their bits.

    python benchmarks/bitsim.py [--quick] [--json OUT] [--plot OUT.png]
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.models import normalised  # noqa: E402

from benchmarks.common import Report, interleave, parser  # noqa: E402
from hw.simulate.bitsim import BitSim  # noqa: E402
from hw.simulate.bitsim.kernels import library  # noqa: E402
from qmodels.architectures import INPUT_GRID, ModelConfig  # noqa: E402
from qmodels.formats import FixedPoint  # noqa: E402
from qmodels.grid import InputGrid  # noqa: E402
from qmodels.quantize.model import QuantizationConfig, quantize_model  # noqa: E402
from qmodels.runtime import runtime, set_seed  # noqa: E402

Images = NDArray[np.float32]


# -- models


class Net:
    """Builds a float Keras model and its QKeras twin layer by layer, choosing activation ranges from data."""

    def __init__(self, shape: tuple[int, int, int], weight_bits: int = 3, activation_bits: int = 6) -> None:
        keras = runtime().keras
        self.keras, self.qkeras = keras.layers, runtime().qkeras
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.rng = np.random.default_rng(1)
        self.sample = self.rng.integers(0, 256, (64, *shape)).astype(np.float32) / 256
        self.input = keras.Input(shape, name="image")
        self.count = 0

    def name(self, kind: str) -> str:
        """A fresh layer name."""
        self.count += 1
        return f"{kind}{self.count}"

    def grid(self) -> Any:
        """The input on its grid: 8-bit pixels and a sign, as the exactness contract asks."""
        return self.qkeras.QActivation(self.qkeras.quantized_bits(9, 0, alpha=1), name="grid")(self.input)

    def _weighted(self, layer: Any, x: Any) -> Any:
        y = layer(x)
        kernel, bias = layer.get_weights()
        layer.set_weights([self.rng.normal(size=kernel.shape) * 0.35, self.rng.normal(size=bias.shape) * 0.1])
        return y

    def conv(self, x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
        """A convolution with low-bit weights."""
        bits = self.qkeras.quantized_bits
        layer = self.qkeras.QConv2D(
            filters,
            size,
            stride,
            "same",
            name=self.name("conv"),
            kernel_quantizer=bits(self.weight_bits, 0, alpha=1),
            bias_quantizer=bits(8, 1, alpha=1),
        )
        return self._weighted(layer, x)

    def dense(self, x: Any, units: int) -> Any:
        """A dense layer with low-bit weights."""
        bits = self.qkeras.quantized_bits
        layer = self.qkeras.QDense(
            units,
            name=self.name("fc"),
            kernel_quantizer=bits(self.weight_bits, 0, alpha=1),
            bias_quantizer=bits(8, 1, alpha=1),
        )
        return self._weighted(layer, x)

    def relu(self, x: Any) -> Any:
        """quantized_relu with integer bits for the 99th percentile."""
        seen = runtime().keras.Model(self.input, x).predict(self.sample, verbose=0)
        top = float(np.percentile(seen, 99.5))
        integer = int(np.clip(np.ceil(np.log2(max(top, 0.1))), 0, self.activation_bits - 1))
        quantizer = self.qkeras.quantized_relu(self.activation_bits, integer)
        return self.qkeras.QActivation(quantizer, name=self.name("relu"))(x)

    def model(self, x: Any) -> Any:
        """The model that ends in x."""
        return runtime().keras.Model(self.input, x)


def mnist_cnn() -> Any:
    """28x28, 91,196 multiply-adds: two strided convolutions, pooling, two dense layers."""
    net = Net((28, 28, 1))
    layers = net.keras
    x = net.relu(net.conv(net.grid(), 8, 3, 2))
    x = net.relu(net.conv(x, 16, 3, 2))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    return net.model(net.dense(net.relu(net.dense(x, 134)), 10))


def resnet8() -> Any:
    """MLPerf Tiny's ResNet-8 for CIFAR-10, 12.5 million multiply-adds, as our flow quantizes it."""
    shape = (32, 32, 3)
    pixels = np.random.default_rng(1).integers(0, 256, (64, *shape)).astype(np.float32) / 256
    bits = QuantizationConfig(weight_bits=3, activation_bits=6)
    return quantize_model(normalised(ModelConfig(architecture="resnet8"), shape), bits, pixels).model


def small_cnn() -> Any:
    """16x16, 16,032 multiply-adds: small enough for alkaid to unroll in a minute."""
    net = Net((16, 16, 1))
    layers = net.keras
    x = net.relu(net.conv(net.grid(), 8, 3, 2))
    x = net.relu(net.conv(layers.MaxPooling2D(2, name="pool1")(x), 8, 3, 1))
    x = layers.Flatten(name="flatten")(x)
    return net.model(net.dense(net.relu(net.dense(x, 16)), 10))


def tagger() -> Any:
    """A jet tagger, 16-64-32-32-5 with 6-bit weights, inputs fixed<12,5>: 4,256 multiply-adds."""
    q, keras = runtime().qkeras, runtime().keras
    x = inputs = keras.Input((16,), name="features")
    x = q.QActivation("quantized_bits(12,4,alpha=1)", name="grid")(x)
    for index, width in enumerate((64, 32, 32, 5)):
        own = {"kernel_quantizer": "quantized_bits(6,0,alpha=1)", "bias_quantizer": "quantized_bits(6,0,alpha=1)"}
        x = q.QDense(width, name=f"fc{index}", **own)(x)
        x = q.QActivation("quantized_relu(6,2)", name=f"relu{index}")(x) if width != 5 else x
    return keras.Model(inputs, x, name="tagger")


def pictures_of(size: int) -> Any:
    """Two convolutions on size x size x 16: multiply-adds grow with the area; formats and kernels stay the same."""
    net = Net((size, size, 16))
    x = net.relu(net.conv(net.relu(net.conv(net.grid(), 16, 3, 1)), 16, 3, 1))
    x = net.keras.GlobalMaxPooling2D(name="pool")(x)
    return net.model(net.dense(x, 10))


def multiply_adds(model: Any) -> int:
    """Of one sample, zero padding counted as Keras does the layer."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            outputs = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) > 2 else 1
            total += int(np.prod(kernel.shape)) * outputs
    return total


def to_graph(model: Any, folder: Path, stream: bool) -> Any:
    """hls4ml's graph, exact, without writing it."""
    from hw.generate.convert import legacy_keras

    with legacy_keras(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        config = config_from_keras_model(model, granularity="name", backend="Vitis")
        return convert_from_keras_model(
            model,
            hls_config=config,
            backend="Vitis",
            io_type="io_stream" if stream else "io_parallel",
            output_dir=str(folder),
            bit_exact=True,
            part="xcu250-figd2104-2L-e",
        )


def images(model: Any, n: int, seed: int = 5) -> Images:
    """Random 8-bit pixels, on the grid."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *model.input.shape[1:])).astype(np.float32) / 256


# -- peers


def float_twin(model: Any) -> Any:
    """The same architecture in plain float Keras."""
    keras = runtime().keras
    made: dict[str, Any] = {}

    def clone(layer: Any) -> Any:
        kind = type(layer).__name__
        if kind == "QConv2D":
            return keras.layers.Conv2D(layer.filters, layer.kernel_size, layer.strides, layer.padding, name=layer.name)
        if kind == "QDense":
            return keras.layers.Dense(layer.units, name=layer.name)
        if kind == "QActivation":
            linear = layer.name in ("grid", INPUT_GRID)
            return keras.layers.Activation("linear" if linear else "relu", name=layer.name)
        return type(layer).from_config(layer.get_config())

    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            made[layer.name] = keras.Input(layer.output.shape[1:], name=layer.name)
            continue
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        values = [made[source._keras_history.layer.name] for source in sources]
        made[layer.name] = clone(layer)(values if len(values) > 1 else values[0])
    return keras.Model(made[model.layers[0].name], made[model.layers[-1].name])


def best_batch(model: Any, x: Images, sizes: tuple[int, ...]) -> tuple[Callable[[], object], int]:
    """Keras' predict at the fastest of some batch sizes, and that size."""

    def timed(size: int) -> float:
        model.predict(x[: 2 * size], batch_size=size, verbose=0)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            model.predict(x, batch_size=size, verbose=0)
            times.append(time.perf_counter() - start)
        return min(times)

    size = min(sizes, key=timed)
    return lambda: model.predict(x, batch_size=size, verbose=0), size


def tflite_int8(model: Any, x: Images, batch: int) -> Callable[[], object]:
    """TFLite's int8 interpreter with XNNPACK and two threads over x, `batch` images at a time."""
    tf = runtime().tf

    def representative() -> Any:
        for i in range(32):
            yield [x[i : i + 1]]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=2)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], [batch, *x.shape[1:]])
    interpreter.allocate_tensors()
    scale, zero = entry["quantization"]
    quantized = np.clip(np.round(x / scale + zero), -128, 127).astype(np.int8)
    result = interpreter.get_output_details()[0]["index"]

    def run() -> object:
        out = None
        for i in range(0, len(x) - batch + 1, batch):
            interpreter.set_tensor(entry["index"], quantized[i : i + batch])
            interpreter.invoke()
            out = interpreter.get_tensor(result)
        return out

    return run


def peak_gmacs(kind: int, threads: int) -> float:
    """Multiply-adds a second (in 10^9) of independent register dot products on `threads` threads."""
    from concurrent.futures import ThreadPoolExecutor

    lib, rounds = library.load(), 10_000_000
    lib.bitsim_peak(kind, rounds // 10)
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        done = sum(pool.map(lambda _: int(lib.bitsim_peak(kind, rounds)), range(threads)))
        return done / (time.perf_counter() - start) / 1e9


def alkaid_interpreter(model: Any, x: Images) -> tuple[Callable[[], object], NDArray[Any]]:
    """alkaid's interpreter on its own unrolled logic for `small_cnn`, and that logic's outputs for x."""
    from alkaid.trace import FVArrayInput, HWConfig, trace

    # no limit on the adder trees' depth, and the fastest search: only the interpreter is timed
    source = FVArrayInput(model.input.shape[1:], HWConfig(1, -1, -1), {"hard_dc": -1})
    value: Any = source.quantize(0, 0, 8)
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "QConv2D":
            value = _alkaid_convolution(layer, value)
        elif kind == "QDense":
            value = value @ _quantized(layer, 0) + _quantized(layer, 1)
        elif kind == "QActivation" and layer.name != "grid":
            bits, integer = layer.quantizer.bits, layer.quantizer.integer
            value = value.relu().quantize(0, integer, bits - integer, "SAT", "RND_CONV")
        elif kind == "MaxPooling2D":
            value = np.max(np.max(value.reshape(value.shape[0] // 2, 2, value.shape[1] // 2, 2, -1), axis=3), axis=1)
        elif kind == "Flatten":
            value = value.reshape(-1)
    logic = trace(source.reshape(-1), value)
    flat = np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float64)
    return lambda: logic.predict(flat, n_threads=2), logic.predict(flat)


def _quantized(layer: Any, which: int) -> NDArray[np.float64]:
    quantizer = (layer.kernel_quantizer_internal, layer.bias_quantizer_internal)[which]
    return np.asarray(quantizer(layer.weights[which]), dtype=np.float64)


def _alkaid_convolution(layer: Any, value: Any) -> Any:
    """'same' padding: the window's taps outside the image are left out."""
    kernel, bias = _quantized(layer, 0), _quantized(layer, 1)
    size, stride = kernel.shape[0], layer.strides[0]
    height, width = value.shape[:2]
    rows, columns = -(-height // stride), -(-width // stride)
    top = max((rows - 1) * stride + size - height, 0) // 2
    left = max((columns - 1) * stride + size - width, 0) // 2
    pixels = []
    for y in range(rows):
        for x in range(columns):
            taps = [
                (value[iy, ix], kernel[ky, kx])
                for ky in range(size)
                for kx in range(size)
                if 0 <= (iy := y * stride + ky - top) < height and 0 <= (ix := x * stride + kx - left) < width
            ]
            patch = np.concatenate([tap for tap, _ in taps])
            pixels.append(patch @ np.concatenate([weights for _, weights in taps]) + bias)
    return np.concatenate(pixels).reshape(rows, columns, -1)


# -- measurements

_READY = """
import pickle, sys, time
sys.path.insert(0, {root!r})
start = time.perf_counter()
from hw.simulate.bitsim import BitSim
network = pickle.load(open({network!r}, "rb"))
simulator = BitSim(network)
print(time.perf_counter() - start)
"""

_MEMORY = """
import pickle, re, sys
sys.path.insert(0, {root!r})
import numpy as np
from hw.simulate.bitsim import BitSim
simulator = BitSim(pickle.load(open({network!r}, "rb")))
x = np.zeros(({samples}, *simulator.input_shapes[0]), np.float32)
x[:] = 0.5
out = simulator.predict(x)
# not getrusage: its maximum is inherited from the parent process
highest = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(highest - x.nbytes - out.nbytes)
"""


def in_process(program: str, **values: object) -> float:
    """Run a small program in a fresh interpreter and read the number it prints."""
    cache = values.pop("cache", None)
    environment = dict(os.environ, **({"ROBUST_HLS_CACHE": str(cache)} if cache else {}))
    done = subprocess.run(
        [sys.executable, "-c", program.format(**values)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def start_up(report: Report, graph: Any, folder: Path) -> None:
    """First use ever, later processes, and memory against the number of images."""
    import pickle

    from hw.simulate.bitsim.lower import lower

    network = folder / "network.pickle"
    network.write_bytes(pickle.dumps(lower(graph)))
    cache = folder / "cache"
    values = {"root": str(ROOT), "network": str(network)}
    report.figure("cold_start_s", in_process(_READY, cache=cache, **values), "empty cache: builds the kernels")
    warm = [in_process(_READY, cache=cache, **values) for _ in range(3)]
    report.figure("warm_start_s", sorted(warm)[1], "a new process, kernels in the cache, to ready")
    used = {n: in_process(_MEMORY, samples=n, **values) for n in (10_000, 100_000)}
    report.details["memory_beyond_arrays_bytes"] = used
    small, large = used[10_000] / 1e6, used[100_000] / 1e6
    print(f"{'memory beyond the arrays':28s} {small:9.0f} MB for 10,000 images, {large:.0f} MB for 100,000")


def against_csim(report: Report, key: str, graph: Any, simulator: BitSim, x: Images, few: int, rounds: int) -> int:
    """Speed against hls4ml's own predict, and mismatches on the images both saw."""
    with contextlib.redirect_stdout(io.StringIO()):
        graph.compile()
    reference = graph.predict(np.ascontiguousarray(x[:few]))
    mismatches = int((reference.reshape(few, -1) != simulator.predict(x[:few])).sum())
    timed = interleave(
        {"bitsim": (lambda: simulator.predict(x), len(x)), "csim": (lambda: graph.predict(x[:few]), few)}, rounds
    )
    report.figure(
        f"{key}_vs_csim",
        timed.ratio("bitsim", "csim"),
        f"{timed.median('bitsim'):,.0f} against {timed.median('csim'):,.1f} images/s",
    )
    return mismatches


def against_keras(
    report: Report, key: str, model: Any, simulator: BitSim, x: Images, sizes: tuple[int, ...], rounds: int
) -> None:
    """Speed against a Keras model's predict at its best batch size."""
    call, size = best_batch(model, x, sizes)
    timed = interleave({"bitsim": (lambda: simulator.predict(x), len(x)), "keras": (call, len(x))}, rounds)
    report.figure(
        key,
        timed.ratio("bitsim", "keras"),
        f"{timed.median('bitsim'):,.0f} against {timed.median('keras'):,.0f} images/s (batch {size})",
    )


def share_of_peak(report: Report, key: str, simulator: BitSim, x: Images, macs: int, rounds: int) -> None:
    """Multiply-adds a second as a share of the machine's own peak, both on two threads, in turn."""
    kind = int(any(kernel.startswith("int8") for kernel in simulator.kernels.values()))
    shares, rates = [], []
    simulator.predict(x)
    for _ in range(rounds):
        peak = peak_gmacs(kind, 2)
        start = time.perf_counter()
        simulator.predict(x, threads=2)
        rate = len(x) * macs / (time.perf_counter() - start) / 1e9
        shares.append(rate / peak)
        rates.append((rate, peak))
    middle = sorted(rates)[len(rates) // 2]
    report.figure(
        key,
        float(np.median(shares)),
        f"{middle[0]:.0f} of {middle[1]:.0f} G multiply-adds/s ({8 if kind else 16}-bit, {library.isa_name()})",
    )


def weight_swap(report: Report, simulator: BitSim, graph: Any) -> None:
    """New weights of the same structure."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        simulator.update_weights(graph)
        times.append(time.perf_counter() - start)
    report.figure("weight_swap_s", float(np.median(times)), "ResNet-8, 78 thousand weights")


def same_bits(simulator: BitSim, x: Images) -> bool:
    """Whether every thread count and batch size gives the same outputs for x."""
    whole = simulator.predict(x)
    return all(
        np.array_equal(
            whole, np.concatenate([simulator.predict(x[i : i + step], threads=t) for i in range(0, len(x), step)])
        )
        for step, t in ((100, 1), (len(x), 1), (33, 3))
    )


def codes_against_floats(report: Report, simulator: BitSim, x: Images, rounds: int) -> int:
    """Speed of 8-bit codes against the float32 numbers they stand for, and how many outputs differ."""
    codes = (x * 256).astype(np.uint8)
    timed = interleave(
        {
            "uint8": (lambda: simulator.predict(codes, fraction=8), len(x)),
            "float32": (lambda: simulator.predict(x), len(x)),
        },
        rounds,
    )
    report.figure(
        "mnist_cnn_codes_vs_float32",
        timed.ratio("uint8", "float32"),
        f"{timed.median('uint8'):,.0f} against {timed.median('float32'):,.0f} images/s",
    )
    return int((simulator.predict(codes, fraction=8) != simulator.predict(x)).sum())


def _seconds_per_image(model: Any, folder: Path) -> float:
    simulator, x = BitSim.from_graph(to_graph(model, folder / "stack", False)), images(model, 4_000)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        simulator.predict(x)
        times.append(time.perf_counter() - start)
    return min(times) / len(x)


def linearity(report: Report, simulator: BitSim, model: Any, plot: Path | None, quick: bool, folder: Path) -> None:
    """Time against the number of images, and against multiply-adds."""
    counts = [1_000, 3_000, 10_000, 30_000] + ([] if quick else [100_000])
    x, seconds = images(model, counts[-1]), []
    for n in counts:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            simulator.predict(x[:n])
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
    report.details["seconds_by_images"] = dict(zip(map(str, counts), seconds, strict=True))
    work = {multiply_adds(wide): _seconds_per_image(wide, folder) for wide in map(pictures_of, (8, 12, 16, 24, 32))}
    report.details["seconds_per_image_by_multiply_adds"] = {str(macs): found for macs, found in work.items()}
    if plot is not None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter

        figure = Figure(figsize=(10, 3.5))
        axes, beside = figure.subplots(1, 2)
        macs = list(work)
        beside.loglog(macs, list(work.values()), "o-", label="bitsim")
        beside.loglog(macs, [work[macs[-1]] * n / macs[-1] for n in macs], "--", color="grey", label="linear")
        beside.set(
            xlabel="multiply-adds an image",
            ylabel="seconds an image",
            title="two convolutions, 8x8 to 32x32, 2 threads",
        )
        beside.xaxis.set_minor_formatter(NullFormatter())  # they would lie on one another
        beside.legend()
        axes.loglog(counts, seconds, "o-", label="bitsim")
        axes.loglog(counts, [seconds[-1] * n / counts[-1] for n in counts], "--", color="grey", label="linear")
        axes.set(xlabel="images", ylabel="seconds", title="MNIST CNN, 2 threads")
        axes.legend()
        figure.tight_layout()
        figure.savefig(plot)


def main() -> int:
    """Measure and report."""
    arguments = parser(__doc__)
    arguments.add_argument("--plot", type=Path, metavar="OUT", help="plot time against images here")
    options = arguments.parse_args()
    rounds, report = (3, Report()) if options.quick else (9, Report())
    set_seed(0)
    with tempfile.TemporaryDirectory(prefix="bitsim-bench-") as name:
        folder = Path(name)
        mnist, resnet, small = mnist_cnn(), resnet8(), small_cnn()
        macs = {"mnist_cnn": multiply_adds(mnist), "resnet8": multiply_adds(resnet), "small_cnn": multiply_adds(small)}
        report.details["multiply_adds"] = macs
        print("multiply-adds", macs, "isa", library.isa_name())
        mnist_graph, resnet_graph = to_graph(mnist, folder / "mnist", False), to_graph(resnet, folder / "resnet", True)
        start_up(report, mnist_graph, folder)
        mnist_sim, resnet_sim = BitSim.from_graph(mnist_graph), BitSim.from_graph(resnet_graph)
        report.details["kernels"] = {"mnist_cnn": mnist_sim.kernels, "resnet8": resnet_sim.kernels}
        x, r = images(mnist, 20_000 if options.quick else 50_000), images(resnet, 1_000 if options.quick else 4_000)
        share_of_peak(report, "mnist_cnn_share_of_peak", mnist_sim, x, macs["mnist_cnn"], rounds)
        share_of_peak(report, "resnet8_share_of_peak", resnet_sim, r, macs["resnet8"], rounds)
        two = interleave(
            {
                "2": (lambda: resnet_sim.predict(r, threads=2), len(r)),
                "1": (lambda: resnet_sim.predict(r, threads=1), len(r)),
            },
            rounds,
        )
        report.figure("threads2_speedup", two.ratio("2", "1"), "ResNet-8")
        same = same_bits(resnet_sim, r[:777])
        report.details["same_for_every_thread_count_and_batch"] = same
        weight_swap(report, resnet_sim, resnet_graph)
        linearity(report, mnist_sim, mnist, options.plot, options.quick, folder)
        against_keras(report, "mnist_cnn_vs_qkeras", mnist, mnist_sim, x[:20_000], (256, 1024, 4096), rounds)
        against_keras(report, "resnet8_vs_qkeras", resnet, resnet_sim, r[:1_000], (100, 250, 500), rounds)
        against_keras(
            report, "resnet8_vs_keras_float", float_twin(resnet), resnet_sim, r[:2_000], (100, 250, 500, 1000), rounds
        )
        peers(report, resnet, resnet_sim, small, folder, r, rounds)
        mismatches = against_csim(
            report, "mnist_cnn", mnist_graph, mnist_sim, x, 200 if options.quick else 1_000, rounds
        )
        mismatches += against_csim(
            report, "resnet8", resnet_graph, resnet_sim, r, 8 if options.quick else 24, min(rounds, 5)
        )
        jets, jets_graph = InputGrid(FixedPoint(12, 5)), to_graph(tagger(), folder / "tagger", False)
        features = jets.to_values(jets.random(100_000, (16,), np.random.default_rng(0)))
        mismatches += against_csim(report, "tagger", jets_graph, BitSim.from_graph(jets_graph), features, 5_000, rounds)
        mismatches += codes_against_floats(report, mnist_sim, x, rounds)
        report.figure("mismatches", mismatches, "outputs of all networks against csim, and of codes against floats")
    report.write(options.json)
    return int(mismatches > 0 or not same)


def peers(report: Report, resnet: Any, resnet_sim: BitSim, small: Any, folder: Path, r: Images, rounds: int) -> None:
    """TFLite and alkaid, where they are installed."""
    try:
        call = tflite_int8(float_twin(resnet), r[:1_000], 50)
        timed = interleave({"bitsim": (lambda: resnet_sim.predict(r[:1_000]), 1_000), "xnnpack": (call, 1_000)}, rounds)
        report.figure(
            "resnet8_vs_xnnpack",
            timed.ratio("bitsim", "xnnpack"),
            f"{timed.median('bitsim'):,.0f} against {timed.median('xnnpack'):,.0f} images/s",
        )
    except (ImportError, AttributeError) as error:
        report.leave_out("resnet8_vs_xnnpack", f"TFLite is not in this TensorFlow: {error}")
    try:
        simulator, x = BitSim.from_graph(to_graph(small, folder / "small", False)), images(small, 10_000)
        call, outputs = alkaid_interpreter(small, x)
        report.details["alkaid_differs_in"] = int((outputs.reshape(len(x), -1) != simulator.predict(x)).sum())
        timed = interleave({"bitsim": (lambda: simulator.predict(x), len(x)), "alkaid": (call, len(x))}, rounds)
        report.figure(
            "small_cnn_vs_alkaid",
            timed.ratio("bitsim", "alkaid"),
            f"{timed.median('bitsim'):,.0f} against {timed.median('alkaid'):,.0f} images/s",
        )
    except ImportError as error:
        report.leave_out("small_cnn_vs_alkaid", f"alkaid is not installed: {error}")


if __name__ == "__main__":
    sys.exit(main())
