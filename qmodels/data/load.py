"""From a name to a data set: found, checked, split, and put on the device's input grid."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qmodels.affine import Affine
from qmodels.data.builtin import find
from qmodels.data.checks import check_arrays
from qmodels.data.dataset import Dataset, Split
from qmodels.data.holdout import hold_out
from qmodels.data.inputs import InputConfig, Inputs, encode_numbers, encode_pixels, places_of
from qmodels.data.raw import Raw
from qmodels.data.several import ONE, check_configs, in_models_order, input_names, join, suffix
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import Codes, InputGrid
from qmodels.layers import input_format, input_shape_of
from qmodels.targets import TargetKind, check_targets


def load_data(
    name: str | Path,
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    limit_train: int | None = None,
    limit_test: int | None = None,
    label: str | None = None,
    inputs: InputConfig | None = None,
    inputs_of: Mapping[str, InputConfig] | None = None,
    model: Callable[[], Any] | None = None,
    targets: Callable[[], TargetKind | Literal["auto"]] | TargetKind | Literal["auto"] = "classes",
    scalings: Callable[[], Sequence[Affine | None]] | None = None,
) -> Dataset:
    """Load, check and split a dataset.

    Args:
        name: `digits`, `breast_cancer`, `wine`, `mnist`, `fashion_mnist`, `cifar10`, or a path: of an `.npz` with
            x_train, y_train, x_test, y_test (of several inputs x_train_NAME and x_test_NAME for each), of a `.csv` (or
            `.parquet`) table, or of a folder with one subfolder of pictures per class.
        seed: of the shuffle that picks the validation samples, and the test samples of tables and pictures.
        data_dir: where `<name>.npz` is looked for first; default: $ROBUST_HLS_DATA.
        validation_share: share of the training samples held out.
        test_share: share of a table's or a folder's samples that are for the test.
        limit_train: use only so many training samples (validation included).
        limit_test: use only so many test samples.
        label: a table's column with the class.
        inputs: how numbers become codes; None: the defaults.
        inputs_of: the same for single ones of several inputs, by name.
        model: gives the user's own model: its input quantizer is the default format, its input shape decides about
            channels. Asked only after the arrays were checked.
        targets: what y holds, or how to find out once the arrays were checked; see `check_targets`.
        scalings: what layers that were taken off `model` did to each of its inputs; asked after `model`.

    Raises:
        UserError: the data set is unknown, unreadable or breaks a rule; the message names file and array.
    """
    raw = find(str(name), data_dir, label, test_share, seed)
    names, each = input_names(raw.arrays), inputs_of or {}
    checked = {of: check_arrays(raw.arrays, raw.source, suffix(of)) for of in names}
    check_configs(each, names, raw.source)
    wanted = targets() if callable(targets) else targets
    found = check_targets(raw.arrays["y_train"], raw.arrays["y_test"], raw.source, wanted)
    y, classes = found.train, found.classes
    order = np.random.default_rng(seed).permutation(len(y))[:limit_train]
    held_out = max(1, round(len(order) * validation_share))
    if held_out >= len(order):
        raise UserError(f"{raw.source}: {len(order)} training samples leave none after holding out {held_out}")
    train, validation = hold_out(y if classes else np.zeros(len(y), np.int64), order, held_out)
    if classes and (missing := sorted(set(range(classes)) - set(y[train].tolist()))):
        raise UserError(
            f"{raw.source}: y_train has no training sample of class {missing[0]} (classes 0..{classes - 1}) after "
            f"limiting to {len(order)} samples and holding {held_out} out; raise data.limit_train"
        )
    own = model() if model is not None else None
    done = scalings() if scalings is not None else ()
    parts = []
    for place, of in enumerate(names := in_models_order(names, own, raw.source)):
        scaling = done[place] if done else None
        train_x, test_x = _arrays(checked[of], raw, suffix(of), scaling)
        x = _aligned([train_x[train], train_x[validation], test_x[:limit_test]], own, place)
        with _named(of):
            parts.append(_encoded(x, each.get(of, inputs or InputConfig()), raw, own, place, scaling))
    codes, grid, how = parts[0] if names == ONE else join(names, parts)
    splits = zip(codes, (y[train], y[validation], found.test[:limit_test]), strict=True)
    first, second, third = (Split(x_part, y_part, grid) for x_part, y_part in splits)
    return Dataset(Path(name).stem, first, second, third, classes, how, raw.labels, found.kind)


@contextlib.contextmanager
def _named(of: str) -> Iterator[None]:
    """Messages about one of several inputs name it, and its keys."""
    try:
        yield
    except UserError as error:
        told = str(error).replace("data.input", f"data.inputs.{of}")
        for array in ("x_train", "x_test"):
            told = told.replace(f": {array} ", f": {array}{suffix(of)} ")
        raise UserError(told if of else str(error)) from None


def _arrays(
    checked: Mapping[str, NDArray[Any]], raw: Raw, of: str, scaling: Affine | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """x_train and x_test. Where a model scales its inputs itself, pixels in 0..1 are numbers in the user's unit."""
    parts = (raw.arrays[f"x_train{of}"], raw.arrays[f"x_test{of}"])
    in_unit = any(np.issubdtype(part.dtype, np.floating) and part.max(initial=0.0) <= 1 for part in parts)
    if scaling is None or checked["x_train"].dtype != np.uint8 or not in_unit:
        return checked["x_train"], checked["x_test"]
    return parts[0].astype(np.float64), parts[1].astype(np.float64)


def with_channels(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) as (N, H, W, 1); others as they are."""
    return images[..., None] if images.ndim == 3 else images


def _aligned(parts: list[NDArray[Any]], model: Any | None, place: int) -> list[NDArray[Any]]:
    """8-bit images (N, H, W) get a channel; last axes of size one come and go as the model wants them."""
    if parts[0].dtype == np.uint8:
        parts = [with_channels(part) for part in parts]
    wanted, found = input_shape_of(model, place) if model is not None else None, parts[0].shape[1:]
    if wanted is None or wanted == found or _without_ones(wanted) != _without_ones(found):
        return parts
    return [part.reshape(len(part), *wanted) for part in parts]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without last axes of size one."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _encoded(
    parts: list[NDArray[Any]],
    config: InputConfig,
    raw: Raw,
    model: Any | None,
    place: int,
    scaling: Affine | None = None,
) -> tuple[list[Codes], InputGrid, Inputs]:
    if scaling is not None and config.scale != "none":
        raise UserError(
            f"{raw.source}: data.input.scale: {config.scale}, and your model scales its inputs itself; that is done "
            "before the device already: leave data.input.scale out"
        )
    if scaling is not None and scaling.number is not None:  # then it is a number like any other
        config, scaling = config.model_copy(update={"scale": scaling.number}), None
        places = places_of(config.scale)
        if parts[0].dtype == np.uint8 and config.given_format is None and (places or config.scale == 1):
            config = config.model_copy(update={"scale": "none", "format": f"ufixed<8,{8 - places}>"})
    fmt = config.given_format
    eight = fmt is None or (fmt.width == 8 and not fmt.signed)
    if parts[0].dtype == np.uint8 and config.scale == "none" and eight:
        return encode_pixels(parts, config, raw.features, raw.source)

    def model_format() -> FixedPoint | None:
        fits = model is not None and input_shape_of(model, place) == parts[0].shape[1:]
        return input_format(model, place) if fits else None

    return encode_numbers(parts, config, raw.features, raw.source, model_format, scaling)
