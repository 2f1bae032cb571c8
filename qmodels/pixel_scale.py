"""Whether a model of the user's expects pixels on another scale than the one it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data import Dataset, Split
from qmodels.errors import UserError
from qmodels.statistics import paired_p_value

Answers = NDArray[np.bool_]  # (N,)
SAMPLES = 300
#: How much more accurate the model must be on another scale for us to refuse, as a share.
CLEARLY = 0.1
#: A model that is right less often than this on every scale was not trained on these data: we can tell nothing then.
TRAINED = 0.5
SIGNIFICANCE = 1e-4
#: Scales by their unit: value = pixel * unit; and the setting that gives it.
SCALES = {
    "k/256": (1 / 256, "ufixed<8,0>"),
    "k/255": (1 / 255, "ufixed<8,0>"),
    "0..255": (1.0, "ufixed<8,8>"),
}


def check_scale(model: Any, data: Dataset, where: str) -> None:
    """Raise UserError if a classifier is clearly better on another scale of the pixels than on the data's.

    Args:
        model: the user's, Keras or QKeras; its outputs are one number per class.
        data: only 8-bit data are looked at; a few hundred training samples.
        where: the model's file, for the message.
    """
    grid = data.grid
    if grid.ports or grid.format.width != 8 or grid.format.signed or data.inputs.scale != "none":
        return
    few = data.train.take(SAMPLES)
    right = _right(model, few, float(grid.step))
    found = {name: _right(model, few, unit) for name, (unit, _) in SCALES.items() if unit != float(grid.step)}
    best = clearly_better(right, found)
    if best is None or SCALES[best][1] == _setting(data):
        return
    raise UserError(
        f"{where}: is right on {100 * right.mean():.1f} % of {len(few)} training samples as they are given to it "
        f"({_name(float(grid.step))}), and on {100 * found[best].mean():.1f} % on the scale {best}. "
        f"Set data.input.format: {SCALES[best][1]}"
    )


def clearly_better(right: Answers, others: Mapping[str, Answers]) -> str | None:
    """The scale on which a model is right so much more often that it was surely trained on it; None: there is none.

    Args:
        right: of every sample, whether the model is right on the scale that it is given.
        others: the same on other scales, by their names; at least one.
    """
    best = max(others, key=lambda name: float(others[name].mean()))
    better = float(others[best].mean() - right.mean())
    if others[best].mean() < TRAINED or better < CLEARLY or paired_p_value(right, others[best]) > SIGNIFICANCE:
        return None
    return best


def _setting(data: Dataset) -> str:
    return f"ufixed<8,{data.grid.format.integer}>"


def _name(step: float) -> str:
    return next((name for name, (unit, _) in SCALES.items() if unit == step), f"k * {step:g}")


def _right(model: Any, few: Split, unit: float) -> Answers:
    outputs = model(few.x.astype(np.float32) * np.float32(unit), training=False).numpy()  # `predict` compiles first
    return np.asarray(outputs.reshape(len(few), -1).argmax(axis=1) == few.y)
