"""hls4ml's model graph, after its passes, as a `Network`.

Semantics are those of the C++ that hls4ml 1.3.0 generates for Vitis and Vivado (templates/vivado/nnet_utils,
templates/vitis/nnet_utils). Each family of layers has a module with a table `HANDLERS`, by hls4ml's class names.
"""

from __future__ import annotations

from typing import Any

from hw.generate.writing import check_all_written
from hw.simulate.bitsim.lower import activation, linear, merge, pool, shape, softmax
from hw.simulate.bitsim.lower.lowering import Handler, Lowering, refuse
from hw.simulate.bitsim.program import Input, Network, Value
from qmodels.errors import UserError

#: Same C++ headers for these; the others compute differently.
BACKENDS = ("vitis", "vivado", "vivadoaccelerator")


def _input(low: Lowering, layer: Any) -> None:
    out = low.result(layer)
    low.emit(Input(out, low.graph.inputs.index(layer.outputs[0])))
    low.inputs.append(out)


_HANDLERS: dict[str, Handler] = {
    "Input": _input,
    **activation.HANDLERS,
    **linear.HANDLERS,
    **merge.HANDLERS,
    **pool.HANDLERS,
    **shape.HANDLERS,
    **softmax.HANDLERS,
}


def lower(graph: Any) -> Network:
    """The network of an hls4ml `ModelGraph` whose passes have run.

    Raises:
        UserError: a layer, type or backend that bitsim does not know, or a layer that is not in the C++.
    """
    backend = str(graph.config.get_config_value("Backend")).lower()
    if backend not in BACKENDS:
        raise UserError(
            f"bitsim computes like the {', '.join(BACKENDS)} backends, not {backend}. csim can: --engine csim"
        )
    check_all_written(graph)
    low = Lowering(graph)
    traced: dict[str, Value] = {}
    for layer in graph.get_layers():
        handler = _HANDLERS.get(layer.class_name)
        if handler is None:
            refuse(layer, "this layer class")
        handler(low, layer)
        if layer.get_attr("function_cpp", None) and layer.class_name not in ("Clone", "Repack", "Broadcast"):
            traced[layer.name] = low.values[layer.outputs[0]]
    order = [low.values[name] for name in graph.inputs]
    outputs = tuple(low.values[name] for name in graph.outputs)
    return Network(tuple(low.ops), tuple(order), outputs, traced)
