"""When the gate fails: which setting of the first layer that differs probably did it."""

from __future__ import annotations

from typing import Any

from hw.generate.contract.accumulators import accumulator_warnings
from hw.generate.contract.activations import activation_of
from hw.generate.contract.quantizers import weight_quantizers
from hw.generate.contract.rules import contract
from qmodels.layers import calls_of

_NOTHING = "no setting of it is suspicious: please report this model as a bug"


def suspects(model: Any, layer: str, graph: Any | None = None, backend: str = "Vitis") -> str:
    """What probably makes a layer of the accelerator differ from the model's: one line for the exactness gate.

    Args:
        model: the QKeras model.
        layer: the first layer that differs, by the model's or hls4ml's name.
        graph: hls4ml's graph of it, after its passes: its sums are looked at too.
        backend: hls4ml's name of the backend.
    """
    own = _layer_of(model, layer)
    if own is None:
        return f"layer {layer!r} comes from hls4ml, the model has no layer of that name"
    near = [own, *_computing(model, own)]
    told = [str(violation) for violation in contract(model, backend) if violation.layer in [one.name for one in near]]
    told += _sums(graph, [one.name for one in near])
    return f"probably: {'; '.join(told)}" if told else f"layer {layer!r} ({_quantizers(own)}): {_NOTHING}"


def _layer_of(model: Any, name: str) -> Any | None:
    """The model's layer that a layer of hls4ml's came from: it splits off activations and scales, `fc_linear`."""
    fitting = [one for one in model.layers if name == one.name or name.startswith(f"{one.name}_")]
    return max(fitting, key=lambda one: len(one.name), default=None)


def _computing(model: Any, layer: Any) -> list[Any]:
    """The layers right before it: their sums are rounded here."""
    return [tensor._keras_history[0] for call in calls_of(model)[layer.name] for tensor in call.keras_inputs]


def _sums(graph: Any | None, near: list[str]) -> list[str]:
    if graph is None:
        return []
    found = (violation for violation in accumulator_warnings(graph) if violation.layer in near)
    return [
        f"layer {violation.layer!r}: {violation.problem}; {violation.fix}, or let the difference be reported"
        for violation in found
    ]


def _quantizers(layer: Any) -> str:
    """A layer's quantizers in words."""
    settings = {setting: quantizer for setting, quantizer in weight_quantizers(layer).items()}
    _, activation = activation_of(layer)
    named = [f"{setting} {quantizer}" for setting, quantizer in settings.items() if quantizer is not None]
    named += [f"activation {activation}"] if activation is not None and not _is_plain(activation) else []
    return ", ".join(named) or type(layer).__name__


def _is_plain(activation: Any) -> bool:
    """Whether an activation is a plain function, which has no settings."""
    return hasattr(activation, "__name__")
