"""Data of models with several inputs: one array for each, named as the input layers, joined to one flat grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.data.inputs import FloatArray, InputConfig, Inputs, short
from qmodels.errors import UserError, allowed_names
from qmodels.grid import Codes, InputGrid

ONE = ("",)  # the one input of most data, whose name nobody asks for
_TRAIN = "x_train_"


@dataclass(frozen=True, eq=False)
class JoinedInputs(Inputs):
    """How the numbers of several inputs became codes; arrays are (F,), of the flat sample."""

    parts: tuple[tuple[str, Inputs], ...] = ()
    of_each: tuple[int, ...] = ()  # numbers of one sample in every part

    @property
    def shifts(self) -> tuple[int, ...]:
        """Binary places between the user's numbers and the values, for every input."""
        return tuple(part.shift for _, part in self.parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        return tuple(f"input {name}: {note}" for name, part in self.parts for note in part.notes)

    @property
    def lsb(self) -> float | FloatArray:
        """Value of a grid step: one number, or (F,) where the inputs have different formats."""
        steps = np.repeat([part.format.lsb for _, part in self.parts], self.of_each)
        return float(steps[0]) if np.all(steps == steps[0]) else steps

    def as_json(self) -> dict[str, Any]:
        """For the run folder and the report: the whole, and every part."""
        told = super().as_json()
        for key, value in (("format", lambda part: short(part.format)), ("scale", lambda part: part.scale)):
            told[key] = ", ".join(f"{name} {value(part)}" for name, part in self.parts)
        return told | {"inputs": {name: part.as_json() for name, part in self.parts}}


def input_names(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Names of the inputs, from x_train_NAME, in the file's order; `ONE` where there is a plain x_train."""
    names = tuple(key.removeprefix(_TRAIN) for key in arrays if key.startswith(_TRAIN))
    return ONE if "x_train" in arrays or not names else names


def suffix(name: str) -> str:
    """What an input's arrays have behind x_train and x_test."""
    return f"_{name}" if name else ""


def in_models_order(names: tuple[str, ...], model: Any | None, source: str) -> tuple[str, ...]:
    """The data's inputs as the model takes them.

    Args:
        names: of the data's inputs.
        model: the user's own; None: there is none.
        source: of the data, for messages.

    Raises:
        UserError: the data have others than the model.
    """
    if model is None:
        if names == ONE:
            return names
        raise UserError(
            f"{source}: {len(names)} inputs ({', '.join(names)}): only a trained Keras model of your own takes "
            "several; give it as --model, or join the arrays to one x_train"
        )
    wanted = tuple(str(name) for name in model.input_names)
    if len(wanted) == 1 and names == ONE:
        return names
    if len(wanted) > 1 and set(names) == set(wanted):
        return wanted
    found = "x_train" if names == ONE else ", ".join(_TRAIN + name for name in names)
    needed = "x_train" if len(wanted) == 1 else ", ".join(_TRAIN + name for name in wanted)
    raise UserError(
        f"{source}: contains {found}; the model's inputs ({', '.join(wanted)}) need {needed}, and the same for x_test: "
        f"numpy.savez(file, {needed.split(', ')[0]}=..., y_train=..., ...)"
    )


def check_configs(each: Mapping[str, InputConfig], names: tuple[str, ...], source: str) -> None:
    """Raise UserError where data.inputs names an input that is not there."""
    for name in each:
        if name not in names:
            end = "; the data have one input: use data.input" if names == ONE else allowed_names(name, names)
            raise UserError(f"{source}: data.inputs: no input {name!r}{end}")


def join(
    names: Sequence[str], parts: Sequence[tuple[list[Codes], InputGrid, Inputs]]
) -> tuple[list[Codes], InputGrid, Inputs]:
    """Codes (N, F), grid and description of several inputs, from those of each.

    Args:
        names: of the inputs, in the model's order.
        parts: of every input the codes of each split, the grid, and how they were made.
    """
    shapes = [tuple(codes[0].shape[1:]) for codes, _, _ in parts]
    grid = InputGrid.join([(name, shape, part[1]) for name, shape, part in zip(names, shapes, parts, strict=True)])
    splits = zip(*(codes for codes, _, _ in parts), strict=True)
    codes = [grid.flat(split).astype(grid.dtype) for split in splits]
    inputs = [how for _, _, how in parts]

    def flat(attribute: str, default: float) -> FloatArray | None:
        values = [getattr(how, attribute) for how in inputs]
        if all(value is None for value in values):
            return None
        filled = [np.float64(default) if value is None else value for value in values]
        return np.concatenate([np.broadcast_to(v, s).reshape(-1) for v, s in zip(filled, shapes, strict=True)])

    sizes = [port.size for port in grid.ports]
    joined = JoinedInputs(
        grid.format,
        "none",
        flat("offset", 0.0),
        flat("divisor", 1.0),
        flat("deviation", 1.0),
        tuple(place for of in zip(names, shapes, inputs, strict=True) for place in _places(*of)),
        float(np.average([how.saturated for how in inputs], weights=sizes)),
        parts=tuple(zip(names, inputs, strict=True)),
        of_each=tuple(sizes),
    )
    return codes, grid, joined


def _places(name: str, shape: tuple[int, ...], how: Inputs) -> list[str]:
    """A name for every number of an input: `calo.2`, `tracks.5.0`."""
    named = [how.names[place[-1]] if how.names else str(place[-1]) for place in np.ndindex(shape)]
    before = ["".join(f".{number}" for number in place[:-1]) for place in np.ndindex(shape)]
    return [f"{name}{where}.{feature}" for where, feature in zip(before, named, strict=True)]
