"""Per layer and in total: multipliers, EBOPs, BOPs, memory, block RAM, LUTs, DSPs, latency and initiation interval.

Counts (multiplications, EBOPs, bits) are exact for the graph. LUTs, DSPs and cycles are estimates: docs/cost.md holds
them against vendor reports and says how far off they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from typing import Any

import numpy as np

from hw.cost.adders import adder_bits
from hw.cost.memory import activation_tables, stream_fifo, weight_memory
from hw.cost.rtl_luts import activation_bits, rtl_luts, unrolled
from hw.cost.weights import raw_weights
from hw.generate.codes import KERNELS, Codebook
from qmodels.formats import FixedPoint
from qmodels.quantize.constants import enclosed_bits

#: A product of more weight bits x activation bits than this goes to a DSP. Calibrated: docs/cost.md.
DSP_PRODUCT_BITS = 80
#: LUTs of the adder behind a product that a DSP makes, per bit of the accumulator.
LUTS_PER_DSP_ADDER_BIT = 1.0
_DATAFLOW_START = 1  # cycles, from the reports
_STAGE_CYCLES = 3  # a streamed window's own pipeline, from the reports


@dataclass(frozen=True)
class LayerCost:
    """One layer. All counts are of the hardware as generated; `_estimated` marks what a synthesis tool decides."""

    layer: str
    kind: str
    multiplications: int  # per inference, zero weights left out
    multipliers: int  # in hardware, after reuse
    bops: int  # multiplications x weight bits x activation bits, per inference
    ebops: int  # per multiplication in hardware: the weight's enclosed bits x activation bits
    weight_bits: int  # weights and biases as stored
    table_bits: int
    fifo_bits: int  # streams between layers
    bram_18k: int
    luts_estimated: int
    dsps_estimated: int
    interval_cycles: int  # between two inputs of this layer alone
    latency_cycles: int
    adder_bits: int | None = None  # full-adder bits of unrolled products, by alkaid; None: hw/cost/adders.py


@dataclass(frozen=True)
class Cost:
    """The accelerator: the sum of its layers, and the pace of the slowest."""

    layers: tuple[LayerCost, ...]
    io_type: str
    rtl_luts: int | None = None  # of the unrolled RTL that `robust-hls rtl` makes: hw/cost/rtl_luts.py

    def __str__(self) -> str:
        """A line of totals, and a line for each layer that has multipliers or memory."""
        totals = (
            f"estimated: {self.total('luts_estimated'):,} LUTs, {self.total('dsps_estimated'):,} DSPs, "
            f"{self.total('bram_18k'):,} BRAM (18 kbit), {self.total('weight_bits'):,} weight bits, "
            f"latency {self.latency_cycles:,} cycles, a new input every {self.ii_cycles:,}"
        )
        lines = [
            f"  {layer.layer} ({layer.kind}): {layer.multipliers:,} multipliers, {layer.luts_estimated:,} LUTs, "
            f"{layer.weight_bits:,} weight bits, a new input every {layer.interval_cycles:,} cycles"
            for layer in self.layers
            if layer.multipliers or layer.bram_18k or layer.weight_bits
        ]
        return "\n".join([totals, *lines])

    def total(self, key: str) -> int:
        """Sum of one key over the layers."""
        return sum(int(getattr(layer, key)) for layer in self.layers)

    @property
    def ii_cycles(self) -> int:
        """Cycles between two inferences: the slowest layer's."""
        slowest = max((layer.interval_cycles for layer in self.layers), default=1)
        return slowest + (_DATAFLOW_START if self.io_type == "io_stream" else 0)

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first input to the last output.

        io_parallel: layers one after the other. io_stream: they overlap; the slowest, then the vectors' layers.
        """
        if self.io_type != "io_stream":
            return self.total("latency_cycles")
        slowest = max((layer.interval_cycles for layer in self.layers), default=1)
        after = [layer.latency_cycles for layer in self.layers if layer.kind == "Dense"]
        return slowest + _DATAFLOW_START + sum(after)

    @property
    def adder_bits(self) -> int | None:
        """Sum over the layers with products; None when one of them is not known."""
        found = [layer.adder_bits for layer in self.layers if layer.multipliers]
        return None if not found or None in found else sum(bits for bits in found if bits is not None)

    def as_json(self) -> dict[str, Any]:
        """Totals under self-describing keys, then every layer."""
        return {
            **{key: self.total(key) for key in LayerCost.__dataclass_fields__ if key not in _PER_LAYER},
            "latency_cycles_estimated": self.latency_cycles,
            "ii_cycles_estimated": self.ii_cycles,
            "adder_bits": self.adder_bits,
            "rtl_luts_estimated": self.rtl_luts,
            "io_type": self.io_type,
            "layers": [asdict(layer) for layer in self.layers],
        }


_PER_LAYER = ("layer", "kind", "interval_cycles", "latency_cycles", "adder_bits")


def estimate_cost(graph: Any, codebooks: Mapping[str, Codebook] | None = None, *, adders: bool = False) -> Cost:
    """The cost of an hls4ml `ModelGraph` after its passes.

    Args:
        graph: holding values, not codes yet.
        codebooks: of kernels that will be stored as codes, by the weight variable's name.
        adders: count the adders of unrolled products too, where alkaid is installed: about a second a layer.
    """
    io_type = str(graph.config.get_config_value("IOType"))
    layers = [_layer(layer, io_type, codebooks or {}) for layer in graph.get_layers()]
    if adders:
        layers = [replace(c, adder_bits=adder_bits(g)) for c, g in zip(layers, graph.get_layers(), strict=True)]
    all_positions = unrolled(graph, [layer.adder_bits for layer in layers])
    return Cost(tuple(layers), io_type, rtl_luts(all_positions, activation_bits(graph)))


def _layer(layer: Any, io_type: str, codebooks: Mapping[str, Codebook]) -> LayerCost:
    products = _products(layer, codebooks)
    stored, rom_blocks = weight_memory(layer, codebooks)
    table_bits, table_blocks = activation_tables(layer)
    fifo_bits, fifo_blocks = stream_fifo(layer)
    interval, latency = _cycles(layer, io_type)
    return LayerCost(
        layer=layer.name,
        kind=layer.class_name,
        multiplications=products.count * products.positions,
        multipliers=-(-products.count * products.parallel // products.reuse),
        bops=products.bops * products.positions,
        ebops=products.ebops * products.parallel,
        weight_bits=stored,
        table_bits=table_bits,
        fifo_bits=fifo_bits,
        bram_18k=rom_blocks + table_blocks + fifo_blocks,
        luts_estimated=products.luts,
        dsps_estimated=products.dsps,
        interval_cycles=interval,
        latency_cycles=latency,
    )


@dataclass(frozen=True)
class _Products:
    """A layer's multiplications by constants, at one position."""

    count: int = 0
    bops: int = 0
    ebops: int = 0
    positions: int = 1  # how often the kernel is applied in one inference
    parallel: int = 1  # how many positions the hardware computes at once
    reuse: int = 1
    luts: int = 0
    dsps: int = 0


def _products(layer: Any, codebooks: Mapping[str, Codebook]) -> _Products:
    found = [layer.weights[name] for name in KERNELS if name in layer.weights]
    scale = layer.weights.get("scale") if layer.class_name in ("BatchNormalization", "ApplyAlpha") else None
    if not found and scale is None:
        return _Products()
    source = layer.get_input_variable()
    activation_bits = int(source.type.precision.width)
    parts = [
        _constant_products(weight, activation_bits, layer, codebooks.get(weight.name)) for weight in (found or [scale])
    ]
    reuse = max(int(layer.get_attr("reuse_factor") or 1), 1)
    positions = int(layer.get_attr("out_height") or 1) * int(layer.get_attr("out_width") or 1)
    parallel = max(int(layer.get_attr("parallelization_factor") or 1), 1)
    count, bops, ebops, luts, dsps = (sum(part[i] for part in parts) for i in range(5))
    share = parallel / reuse
    return _Products(count, bops, ebops, positions, parallel, reuse, ceil(luts * share), ceil(dsps * share))


def _constant_products(
    weight: Any, activation_bits: int, layer: Any, codebook: Codebook | None
) -> tuple[int, int, int, int, int]:
    """Count, BOPs, EBOPs, LUTs and DSPs of one product with every weight."""
    fmt = _format(weight.type.precision)
    raw = raw_weights(np.asarray(weight.data), fmt)
    bits = enclosed_bits(raw)
    resource = str(layer.get_attr("strategy") or "latency").lower() == "resource"
    counted = raw.size if resource else int(np.count_nonzero(raw))  # time-multiplexed weights are data: zeros count
    per_product = (np.full(raw.shape, fmt.width) if resource else bits) * activation_bits
    ebops = int(np.sum(per_product))
    in_dsp = per_product > DSP_PRODUCT_BITS
    adder = LUTS_PER_DSP_ADDER_BIT * _accumulator_bits(layer)
    luts = float(np.sum(per_product[~in_dsp])) + adder * int(np.sum(in_dsp))
    if codebook is not None and resource:  # unrolled, the decoder is a constant
        luts += counted * codebook.decoder_luts
    return counted, counted * fmt.width * activation_bits, ebops, ceil(luts), int(np.sum(in_dsp))


def _accumulator_bits(layer: Any) -> int:
    accumulator = layer.get_attr("accum_t")
    return int(accumulator.precision.width) if accumulator is not None else 16


def _format(precision: Any) -> FixedPoint:
    """The format of a weight; binary and ternary ones are integers of their width."""
    try:
        return FixedPoint.from_hls4ml(precision)
    except (ValueError, AttributeError):
        width = int(getattr(precision, "width", 16))
        return FixedPoint(width, width)


def _cycles(layer: Any, io_type: str) -> tuple[int, int]:
    """Interval and latency of a layer alone, at hls4ml's default clock of 5 ns."""
    reuse = max(int(layer.get_attr("reuse_factor") or 1), 1)
    kind = layer.class_name
    if kind in ("Input", "Reshape", "Repack"):
        return 1, 0
    if "Dense" in kind:
        words = _input_words(layer) if io_type == "io_stream" else 1
        latency = words + reuse + (1 if io_type == "io_parallel" else 0)
        return (latency, latency) if io_type == "io_stream" else (reuse, latency)
    if io_type == "io_stream":
        words = _input_words(layer)
        interval = words * (reuse if "Conv" in kind else 1) + (_STAGE_CYCLES if words > 1 else 0)
        return interval, interval
    if "Conv" in kind:
        positions = int(layer.get_attr("n_partitions") or 1)
        return reuse * positions, reuse * positions + _STAGE_CYCLES
    return 1, 1 if "Pooling" in kind or kind in ("Softmax", "Merge", "BatchNormalization") else 0


def _input_words(layer: Any) -> int:
    """Packets of one inference on a layer's input stream: pixels."""
    shape = layer.get_input_variable().shape
    return max(int(prod(shape[:-1])), 1)
