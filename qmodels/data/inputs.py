"""From the user's numbers to codes: the input's format, scaling, bounds and frozen features, and the way back.

A *feature* is an entry of the last axis: a column of a table (F,), a channel of a sequence (T, C) or of an image
(H, W, C). Scaling, bounds, frozen features and standard deviations are told per feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, frexp, log2
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from qmodels.affine import Affine
from qmodels.errors import UserError, allowed_names
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, MAX_INPUT_BITS, Codes, InputGrid

Scale = Literal["none", "standard", "min-max"] | float
Unit = Literal["lsb", "value", "sigma"]  # of epsilon: grid steps, the user's own unit, standard deviations
FloatArray = NDArray[np.float64]

#: Bits of an input whose format nobody gives. Float32, in which Keras computes, adds up whole numbers of 24 bits
#: exactly: 12 leave room for 6-bit weights and sums of 64 products.
AUTO_BITS = 12
#: Share of the values that may saturate before we refuse.
MOST_SATURATED = 0.01


class InputConfig(BaseModel):
    """How numbers become codes of the device's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(
        "auto",
        description="fixed<16,6>, ufixed<8,0>, ...; auto: ufixed<8,0> (pixels k/256) for 8-bit images, else that of "
        f"your model's input quantizer, else {AUTO_BITS} signed bits that hold the training data",
    )
    scale: Scale = Field(
        "none",
        description="standard: mean 0, deviation 1; min-max: 0..1; fitted on training data. A number: what all are "
        "divided by; a power of two goes into the first layer's weights, and the device reads your numbers",
    )
    lower: Any = Field(
        None, description="data, format, a number or one for each feature, in your unit; auto: data, images: format"
    )
    upper: Any = Field(None, description="as lower")
    frozen: tuple[int | str, ...] = Field((), description="features that an attacker cannot change: places or names")

    @field_validator("format")
    @classmethod
    def _format_is_one(cls, text: str) -> str:
        if text == "auto":
            return text
        try:
            width = FixedPoint.parse(text).width
        except ValueError:
            raise ValueError(f"{text!r} is no format; allowed: auto, or fixed<16,6>, ufixed<8,0>, ...") from None
        if width > MAX_INPUT_BITS:
            raise ValueError(f"{text} has {width} bits; allowed: up to {MAX_INPUT_BITS}")
        return text

    @field_validator("lower", "upper")
    @classmethod
    def _bound_is_one(cls, bound: Any) -> Any:
        numbers = bound if isinstance(bound, (list, tuple)) else [bound]
        plain = all(isinstance(n, (int, float)) and not isinstance(n, bool) and np.isfinite(n) for n in numbers)
        if bound is None or bound in ("data", "format") or (plain and len(numbers)):
            return bound
        raise ValueError(f"{bound!r} is no bound; allowed: data, format, a number, or a list with one for each feature")

    @field_validator("scale", mode="before")
    @classmethod
    def _scale_is_one(cls, scale: Any) -> Any:
        number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
        if scale in ("none", "standard", "min-max") or (number and np.isfinite(scale) and scale > 0):
            return scale
        raise ValueError(
            f"{scale!r} is no scale; allowed: none, standard, min-max, or a number above 0, for example 256"
        )

    @property
    def given_format(self) -> FixedPoint | None:
        """The format, if it is not automatic."""
        return None if self.format == "auto" else FixedPoint.parse(self.format)


class RadiusConfig(BaseModel):
    """One radius in a unit of the user's choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit = Field(
        description="lsb: grid steps; value: the data's own unit; sigma: deviations of the training data"
    )
    value: float = Field(gt=0, allow_inf_nan=False, description="radius in that unit")


@dataclass(frozen=True, eq=False)
class Inputs:
    """How the user's numbers became codes: value = (number - offset) / divisor, code = nearest of value / step."""

    format: FixedPoint
    scale: Scale | Literal["model"] = "none"  # model: what layers of the user's model did, which are taken off
    offset: FloatArray | None = None  # (features,), None: 0
    divisor: FloatArray | None = None  # (features,), None: 1
    deviation: FloatArray | None = None  # (features,) of the training data, as values
    names: tuple[str, ...] = ()  # of the features
    saturated: float = 0.0  # share of all numbers that lie beyond the format
    erased: tuple[str, ...] = ()  # features that differ in the training data, but not when rounded
    plain: bool = False  # 8-bit pixels k that stand for k/256, all bounds the format's: nothing to tell

    @property
    def shift(self) -> int:
        """Binary places between the user's numbers and the values, if all that was done to them is a power of two."""
        return places_of(self.scale)

    @property
    def shifts(self) -> tuple[int, ...]:
        """`shift` of every input."""
        return (self.shift,)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        told = []
        if isinstance(self.scale, float) and not self.shift and self.scale != 1:
            told.append(f"data.input.scale {self.scale:g} is no power of two: divide your numbers before the device")
        if self.saturated:
            share = f"{100 * self.saturated:.2g} % of the data"
            told.append(f"{share} lie beyond the input format {short(self.format)}, and saturate")
        if self.erased:
            told.append(f"steps of {self.format.lsb:g} are too coarse for {', '.join(self.erased)}: always one code")
        return tuple(told)

    @property
    def lsb(self) -> float | FloatArray:
        """Value of a grid step."""
        return self.format.lsb

    def scaled(self, numbers: NDArray[Any]) -> FloatArray:
        """Values (N, ...) of the user's numbers."""
        values = np.asarray(numbers, np.float64)
        if self.offset is None or self.divisor is None:
            return values
        return np.asarray((values - self.offset) / self.divisor)

    def unscaled(self, values: NDArray[Any]) -> FloatArray:
        """The user's numbers (N, ...) of values: the reverse of `scaled`."""
        numbers = np.asarray(values, np.float64)
        return numbers if self.offset is None or self.divisor is None else numbers * self.divisor + self.offset

    def steps(self, epsilon: float, unit: Unit, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
        """A radius as grid steps, rounded to whole ones where it differs between features.

        Args:
            epsilon: the radius.
            unit: lsb (grid steps), value (the user's own unit) or sigma (standard deviations of the training data).
            shape: of one input.

        Returns:
            One number if all features have the same, else an array of one sample's shape.
        """
        if unit == "lsb" or not np.isfinite(epsilon):
            return float(epsilon)
        one = np.ones(1)
        if unit == "value":
            each = epsilon / (self.divisor if self.divisor is not None else one) / self.lsb
        else:
            each = epsilon * (self.deviation if self.deviation is not None else one) / self.lsb
        whole = np.rint(each)
        if np.all(whole == whole.flat[0]):
            return float(np.mean(each))
        return np.array(np.broadcast_to(whole, shape))

    def whole_steps(self, radius: RadiusConfig, shape: tuple[int, ...], key: str) -> int:
        """A radius as whole grid steps, the same number for every feature.

        Args:
            radius: what was asked for.
            shape: of one input.
            key: of the config, for messages.

        Raises:
            UserError: features differ, or it is less than half a step.
        """
        steps = self.steps(radius.value, radius.unit, shape)
        if np.ndim(steps):
            raise UserError(
                f"{key}: {radius.value:g} {radius.unit} is another number of grid steps for every feature "
                f"({np.min(steps):g} .. {np.max(steps):g}), and one is needed here; give unit lsb, or "
                "data.input.scale: standard, where one sigma is one number"
            )
        if (whole := round(float(steps))) < 1:
            raise UserError(f"{key}: {radius.value:g} {radius.unit} is less than half a grid step; raise it")
        return whole

    def as_json(self) -> dict[str, Any]:
        """For the run folder and the report."""
        arrays = {name: getattr(self, name) for name in ("offset", "divisor", "deviation")}
        return {
            "format": short(self.format),
            "step": self.lsb if isinstance(self.lsb, float) else self.lsb.tolist(),
            "scale": self.scale,
            **{name: None if array is None else array.tolist() for name, array in arrays.items()},
            "features": list(self.names),
            "saturated_share": self.saturated,
        }


#: Pixels k that stand for k/256.
IMAGE_INPUTS = Inputs(IMAGE_GRID.format, plain=True)


def encode_pixels(
    parts: Sequence[NDArray[np.uint8]], config: InputConfig, names: tuple[str, ...], source: str
) -> tuple[list[Codes], InputGrid, Inputs]:
    """8-bit data: a pixel's number is its code, whatever value the format gives it."""
    fmt = config.given_format or IMAGE_GRID.format
    plain = fmt == IMAGE_GRID.format and config.lower is None and config.upper is None and not config.frozen
    train = parts[0].reshape(-1, parts[0].shape[-1])
    deviation = np.asarray(train.std(axis=0), np.float64) * fmt.lsb
    inputs = Inputs(fmt, deviation=deviation, names=names, plain=plain and not names)
    if plain:
        return list(parts), IMAGE_GRID, inputs
    grid = _grid([np.asarray(parts[0], np.float64) * fmt.lsb], inputs, config, "format", source)
    return list(parts), grid, inputs


def encode_numbers(
    parts: Sequence[NDArray[Any]],
    config: InputConfig,
    names: tuple[str, ...],
    source: str,
    model_format: Callable[[], FixedPoint | None],
    scaling: Affine | None = None,
) -> tuple[list[Codes], InputGrid, Inputs]:
    """Real numbers: scaled as the training part asks, then rounded to the format; what lies beyond saturates.

    Args:
        parts: (N, ...) of the training, validation and test part.
        config: how.
        names: of the features, for messages; may be empty.
        source: of the data, for messages.
        model_format: the format of the user's model's input quantizer, if there is one.
        scaling: what the user's model did to its input, instead of `config.scale`.

    Raises:
        UserError: the format cannot hold the data, or bounds and frozen features do not fit them.
    """
    offset, divisor = (scaling.offset, scaling.divisor) if scaling is not None else _fit(config.scale, parts[0])
    scale = config.scale if scaling is None else "model"
    unscaled = Inputs(IMAGE_GRID.format, scale, offset, divisor)
    values = [unscaled.scaled(part) for part in parts]
    train = values[0].reshape(-1, values[0].shape[-1])
    found = model_format() if config.given_format is None else None
    fmt = config.given_format or found or auto_format(train)
    whose = "the input format" if found is None else "your model's input quantizer"
    saturated = _saturated(values, fmt, scale, source, whose)
    codes = [InputGrid(fmt).to_codes(part) for part in values]
    erased = _erased(train, codes[0], names)
    if erased and config.given_format is None and found is None:
        raise UserError(
            f"{source}: features {', '.join(erased[:5])} of the training data are always the same code in "
            f"{short(fmt)} (steps of {fmt.lsb:g}), the format that holds the largest number; give "
            "data.input.scale: standard, or data.input.format, for example fixed<16,6>"
        )
    inputs = Inputs(fmt, scale, offset, divisor, train.std(axis=0), names, saturated, erased)
    return codes, _grid(values, inputs, config, "data", source), inputs


def auto_format(values: FloatArray) -> FixedPoint:
    """`AUTO_BITS` signed bits that hold every value of the training data, as finely as that allows."""
    largest = float(np.abs(values).max(initial=0.0))
    integer = 1 if largest < 1 else 2 + int(np.floor(log2(largest)))
    return FixedPoint(AUTO_BITS, min(integer, MAX_INPUT_BITS))


def _fit(scale: Scale, train: NDArray[Any]) -> tuple[FloatArray | None, FloatArray | None]:
    """Offset and divisor of every feature; a feature that is constant is only moved."""
    if scale == "none":
        return None, None
    flat = np.asarray(train, np.float64).reshape(-1, train.shape[-1])
    if isinstance(scale, float):
        return np.zeros(train.shape[-1]), np.full(train.shape[-1], scale)
    offset = flat.mean(axis=0) if scale == "standard" else flat.min(axis=0)
    spread = flat.std(axis=0) if scale == "standard" else flat.max(axis=0) - offset
    constant = flat.max(axis=0) == flat.min(axis=0)
    return np.where(constant, flat[0], offset), np.where(constant | (spread == 0), 1.0, spread)


def _saturated(values: Sequence[FloatArray], fmt: FixedPoint, scale: str | float, source: str, whose: str) -> float:
    beyond = 0
    for part, name in zip(values, ("x_train", "x_train", "x_test"), strict=True):
        outside = (part < fmt.minimum - fmt.lsb / 2) | (part > fmt.maximum + fmt.lsb / 2)
        beyond += int(outside.sum())
        if outside.mean() > MOST_SATURATED:
            need = max(-float(part.min()), float(part.max()))
            integer = max(1, ceil(log2(need)) + 1)
            width = min(max(fmt.width, integer), MAX_INPUT_BITS)
            when = " when scaled" if scale != "none" else ""
            raise UserError(
                f"{source}: {name} ranges over {part.min():g}..{part.max():g}{when}; "
                f"{100 * outside.mean():.0f} % of it lies beyond {whose} {short(fmt)}, {fmt.minimum:g}.."
                f"{fmt.maximum:g}. Give data.input.format: fixed<{width},{integer}>, or data.input.scale: standard"
            )
    return beyond / sum(part.size for part in values)


def _erased(train: FloatArray, codes: Codes, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names (or places) of the features that differ between training samples, but whose codes do not."""
    flat = codes.reshape(-1, codes.shape[-1])
    lost = np.all(flat == flat[:1], axis=0) & ~np.all(train == train[:1], axis=0)
    return tuple(names[place] if names else str(place) for place in np.flatnonzero(lost))


def _grid(values: Sequence[FloatArray], inputs: Inputs, config: InputConfig, default: str, source: str) -> InputGrid:
    shape = values[0].shape[1:]
    train = values[0].reshape(-1, shape[-1])
    wanted = [default if bound is None else bound for bound in (config.lower, config.upper)]
    low = _bound(wanted[0], train.min(axis=0), inputs, np.floor, "lower", source)
    high = _bound(wanted[1], train.max(axis=0), inputs, np.ceil, "upper", source)
    frozen = _frozen(config.frozen, inputs.names, shape, source)
    low, high = (bound if np.ndim(bound) == 0 else np.broadcast_to(bound, shape) for bound in (low, high))
    if np.any(np.asarray(low) > np.asarray(high)):
        raise UserError(f"{source}: data.input: lower lies above upper for a feature")
    return InputGrid(inputs.format, low, high, frozen)


def _bound(bound: Any, extreme: FloatArray, inputs: Inputs, outwards: Any, key: str, source: str) -> Any:
    """A bound as codes: of the format, of the training data rounded outwards, or the user's own numbers."""
    fmt = inputs.format
    if bound == "format":
        return fmt.raw_min if key == "lower" else fmt.raw_max
    if bound == "data":
        wanted = extreme
    else:
        given = np.asarray(bound, np.float64)
        if given.ndim and len(given) != len(extreme):
            raise UserError(
                f"{source}: data.input.{key} has {len(given)} numbers; the data have {len(extreme)} features"
            )
        wanted = inputs.scaled(np.broadcast_to(given, extreme.shape))
    return np.clip(outwards(wanted / fmt.lsb), fmt.raw_min, fmt.raw_max).astype(np.int32)


def _frozen(
    wanted: tuple[int | str, ...], names: tuple[str, ...], shape: tuple[int, ...], source: str
) -> NDArray[np.bool_] | None:
    if not wanted:
        return None
    kept = np.zeros(shape, np.bool_)
    for feature in wanted:
        if isinstance(feature, str):
            if feature not in names:
                end = allowed_names(feature, names) if names else "; the data name none: give places, 0 is the first"
                raise UserError(f"{source}: data.input.frozen: no feature {feature!r}{end}")
            feature = names.index(feature)
        if not 0 <= feature < shape[-1]:
            raise UserError(f"{source}: data.input.frozen: no feature {feature}; allowed: 0..{shape[-1] - 1}")
        kept[..., feature] = True
    if kept.all():
        raise UserError(f"{source}: data.input.frozen: all features are frozen; leave one that can be attacked")
    return kept


def places_of(scale: Any) -> int:
    """Binary places that a division by `scale` moves a number; 0 for what is no power of two."""
    return frexp(scale)[1] - 1 if isinstance(scale, float) and frexp(scale)[0] == 0.5 else 0


def short(fmt: FixedPoint) -> str:
    """A format without rounding and overflow, as a config gives it."""
    return f"{'' if fmt.signed else 'u'}fixed<{fmt.width},{fmt.integer}>"
