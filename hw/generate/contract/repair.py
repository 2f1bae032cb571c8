"""Repairs: what keeps a model's outputs is done first; weights are rounded again where nothing else helps, and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hw.generate.contract import mends
from hw.generate.contract.activations import head_of
from hw.generate.contract.draft import Draft
from hw.generate.contract.norms import take_in
from hw.generate.contract.quantizers import weight_quantizers
from hw.generate.contract.rules import contract, unrounded_inputs
from hw.generate.contract.violation import RepairKind, Violation
from hw.generate.contract.weight_values import EXACT_WEIGHTS, WEIGHT_OF, grid_text, weight_values
from qmodels.affine import Affine
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID
from qmodels.scaling import take_off_scaling

Head = Literal["", "softmax", "sigmoid"]

_BATCH = 500


@dataclass(frozen=True)
class Repaired:
    """A model after its repairs, and what was done to it."""

    model: Any
    repairs: tuple[str, ...]
    head: Head = ""  # what was taken off the end: the model now gives logits
    exact: bool = True  # False: weights were rounded again, outputs change
    scalings: tuple[Affine | None, ...] = ()  # of every input: what must be done to numbers before the device now

    @property
    def softmax_stripped(self) -> bool:
        """Whether the model gave probabilities of classes."""
        return self.head == "softmax"


@dataclass(frozen=True)
class OutputChange:
    """How a repaired model's outputs compare with the original's on the same images."""

    images: int
    largest_difference: float
    changed_predictions: int | None  # None: outputs are no choice among classes
    compared: str  # outputs, or softmax (sigmoid) of the new logits against the old outputs

    def __str__(self) -> str:
        told = f"{self.compared}: largest difference {self.largest_difference:g}"
        if self.changed_predictions is None:
            return f"{told} on {self.images} inputs"
        return f"{told}, {self.changed_predictions} of {self.images} predictions changed"


def repair_model(
    model: Any, backend: str = "Vitis", *, input_formats: Sequence[FixedPoint] = (IMAGE_GRID.format,)
) -> Repaired:
    """A copy of the model with all repairs applied; violations without one are left for `check_contract`.

    Args:
        model: a QKeras model.
        backend: hls4ml's name of the backend.
        input_formats: of the data of every input, or one for all, for a model that does not round its inputs.

    Raises:
        UserError: the model has several outputs, a model in it, or a layer that is called twice; or the input
            format is too wide for a quantizer.
    """
    blocking = [violation for violation in contract(model, backend) if violation.blocks_repair]
    if blocking:
        raise UserError("no repair for such a model: " + "\n  - ".join(map(str, blocking)))
    done: list[str] = []
    tried: set[Violation] = set()
    kinds: set[RepairKind] = set()
    head: Head = ""
    scalings: tuple[Affine | None, ...] = ()
    repaired = model
    while found := [v for v in contract(repaired, backend) if v.repair is not None and v not in tried]:
        kind = min((v.repair for v in found if v.repair is not None), key=_ORDER.index)  # one may show the next
        now = [violation for violation in found if violation.repair == kind]
        if kind == "head":
            head = _head(repaired.get_layer(now[0].layer))
        if kind == "scaling":
            unscaled = take_off_scaling(repaired)
            repaired, scalings = unscaled.model, unscaled.scalings
            done.append(unscaled.told)
            tried.update(now)
            continue
        draft = Draft(repaired)
        done += [_mend(draft, repaired, violation, input_formats) for violation in now]
        tried.update(now)
        kinds.add(kind)
        repaired = draft.build()
    return Repaired(repaired, tuple(done), head, "requantize" not in kinds, scalings)


def add_input_quantizer(model: Any, fmt: FixedPoint) -> Any:
    """A copy of a model whose inputs are rounded to a format first: the identity on data of that format.

    Raises:
        UserError: the format is too wide for a quantizer.
    """
    draft = Draft(model)
    for name in model.input_names:
        mends.insert_grid(draft, name, fmt)
    return draft.build()


def output_change(
    original: Any, repaired: Repaired, images: Any, unscaled: Any | None = None, *, chooses: bool = True
) -> OutputChange:
    """Compare outputs; where a softmax or sigmoid was stripped, that of the new logits with the old probabilities.

    Args:
        original: the model before its repairs.
        repaired: after them.
        images: values (N, ...), of several inputs a list.
        unscaled: the same before layers that were taken off; None: there were none.
        chooses: outputs are a choice among classes.
    """
    before = _outputs(original, images if unscaled is None else unscaled)
    after = _outputs(repaired.model, images)
    changed = int(np.sum(_decisions(before, 0.5) != _decisions(after, 0.0 if repaired.head else 0.5)))
    predictions = changed if chooses else None
    compared = "outputs"
    if repaired.head:
        after, compared = _PROBABILITIES[repaired.head](after.astype(np.float64)), f"{repaired.head} of the new logits"
    return OutputChange(len(before), float(np.max(np.abs(before - after), initial=0.0)), predictions, compared)


def _outputs(model: Any, images: Any) -> NDArray[Any]:
    """Of a model that is asked once: Keras' `predict` would compile it first."""
    several = isinstance(images, (list, tuple))
    count = len(images[0]) if several else len(images)
    parts = [slice(start, start + _BATCH) for start in range(0, max(count, 1), _BATCH)]
    return np.concatenate([model([i[p] for i in images] if several else images[p], training=False) for p in parts])


def _decisions(outputs: NDArray[Any], threshold: float) -> NDArray[Any]:
    flat = outputs.reshape(len(outputs), -1)
    return flat.argmax(axis=1) if flat.shape[1] > 1 else flat[:, 0] > threshold


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[Any] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def _sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = 0.5 * (1 + np.tanh(logits / 2))
    return result


_PROBABILITIES = {"softmax": _softmax, "sigmoid": _sigmoid}


def _head(layer: Any) -> Head:
    return "softmax" if head_of(layer) == "softmax" else "sigmoid"


def _fold(draft: Draft, layer: str, setting: str) -> str:
    """A weight's values, rounded and scaled, stored as they are: its quantizer becomes the grid they lie on."""
    own = draft.layers[layer]
    quantizer = weight_quantizers(own)[setting]
    folded = weight_values(own, setting, quantizer)
    assert folded is not None  # else it would not be marked as repairable
    values, grid = folded
    draft.config(layer)[setting] = grid_text(grid)
    variable = getattr(own, WEIGHT_OF[setting])
    place = next(i for i, weight in enumerate(own.weights) if weight is variable)
    draft.weights[layer][place] = values
    kind = type(quantizer).__name__
    how = f"alpha={quantizer.alpha!r}" if kind in EXACT_WEIGHTS else kind
    return f"layer {layer!r}: {setting} {how} folded into the weights, now {grid_text(grid)}"


_STRUCTURE: dict[RepairKind, Callable[[Draft, str], str]] = {
    "name": mends.rename,
    "merge": mends.split_merge,
    "axis": mends.last_axis,
    "reshape": mends.write_shape,
    "pointwise": mends.write_pointwise,
    "causal": mends.pad_causal,
    "pool": mends.plain_pool,
    "head": mends.strip_head,
}
#: Which repair comes first: names before all that makes new ones.
_ORDER: tuple[RepairKind, ...] = get_args(RepairKind)


def _mend(draft: Draft, model: Any, violation: Violation, formats: Sequence[FixedPoint]) -> str:
    kind, layer = violation.repair, violation.layer
    if kind in ("norm", "requantize"):
        return take_in(draft, model, layer, exact=kind == "norm")
    if kind == "fold":
        return _fold(draft, layer, violation.setting.partition(".")[0])
    if kind == "input":
        each = dict(
            zip(model.input_names, formats if len(formats) > 1 else [*formats] * len(model.inputs), strict=True)
        )
        return "; ".join(mends.insert_grid(draft, name, each[name]) for name in unrounded_inputs(model))
    assert kind is not None
    return _STRUCTURE[kind](draft, layer)
