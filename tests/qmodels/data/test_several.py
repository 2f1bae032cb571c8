"""Data of several inputs: read by the input layers' names, each on its own grid, joined to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmodels.data import Dataset, InputConfig, load_data
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import InputGrid
from qmodels.runtime import runtime

FORMATS = st.builds(FixedPoint, st.integers(2, 12), st.integers(-2, 8), st.booleans())
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)


@given(st.lists(st.tuples(SHAPES, FORMATS), min_size=2, max_size=4), st.integers(0, 2**20))
def test_a_joined_grid_is_that_of_each_input(parts: list[tuple[tuple[int, ...], FixedPoint]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grids = [(f"i{place}", shape, InputGrid(fmt)) for place, (shape, fmt) in enumerate(parts)]
    joined, codes = InputGrid.join(grids), [grid.random(5, shape, rng) for _, shape, grid in grids]
    flat = joined.flat(codes).astype(joined.dtype)
    for given_codes, back, values, (_, _, grid) in zip(
        codes, joined.feed(flat), joined.feed(joined.to_values(flat)), grids, strict=True
    ):
        np.testing.assert_array_equal(back, given_codes)
        np.testing.assert_array_equal(values, grid.to_values(given_codes))
    np.testing.assert_array_equal(joined.to_codes(joined.to_values(flat)), flat)
    for made in (joined.random(20, flat.shape[1:], rng), joined.extremes(flat.shape[1:])):
        for part, (_, _, grid) in zip(joined.feed(made), grids, strict=True):
            assert part.min() >= grid.lower and part.max() <= grid.upper


def test_tensors_are_split_as_arrays_are() -> None:
    grid = InputGrid.join([("a", (2, 2), InputGrid(FixedPoint(8, 4))), ("b", (3,), InputGrid(FixedPoint(5, 1)))])
    values = grid.to_values(grid.random(4, (7,), np.random.default_rng(0)))
    for array, tensor in zip(grid.feed(values), grid.feed(runtime().tf.constant(values)), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    with pytest.raises(UserError, match=r"wanted arrays a \(N, 2, 2\), b \(N, 3\); got \(4, 3\), \(4, 2, 2\)"):
        grid.flat(grid.feed(values)[::-1])
    with pytest.raises(UserError, match=r"flat samples of several inputs have shape \(N, 7\); got \(4, 6\)"):
        grid.feed(values[:, :6])


def arrays(rng: np.random.Generator, samples: int = 60) -> dict[str, Any]:
    y = np.arange(samples) % 2
    found: dict[str, Any] = {"y_train": y, "y_test": y[:10]}
    for part, count in (("train", samples), ("test", 10)):
        found[f"x_{part}_calo"] = rng.uniform(0, 1, (count, 3))
        found[f"x_{part}_tracks"] = rng.normal(size=(count, 4, 2))
    return found


def model() -> Any:
    keras, q = runtime().keras, runtime().qkeras
    tracks, calo = keras.Input((4, 2), name="tracks"), keras.Input((3,), name="calo")
    rounded = q.QActivation("quantized_bits(10, 3, alpha=1)")(tracks)
    return keras.Model([tracks, calo], keras.layers.Concatenate()([keras.layers.Flatten()(rounded), calo]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "own.npz", **arrays(np.random.default_rng(0)))
    return tmp_path / "own.npz"


def test_inputs_come_in_the_models_order_with_a_format_each(file: Path) -> None:
    settings = {"calo": InputConfig(format="ufixed<9,1>", scale="min-max", frozen=(2,))}
    data: Dataset = load_data(file, model=model, inputs_of=settings)
    grid, stored = data.grid, np.load(file)
    told = [(port.name, port.shape, str(port.format)) for port in grid.ports]
    assert [name for name, _, _ in told] == ["tracks", "calo"] and data.input_shape == (11,)
    assert grid.formats == (FixedPoint(10, 4), FixedPoint(9, 1, signed=False))  # the model's quantizer; ours
    assert grid.frozen is not None and grid.frozen.tolist() == [False] * 10 + [True]
    tracks, _ = grid.feed(data.test.values)
    np.testing.assert_array_equal(
        tracks, InputGrid(grid.formats[0]).to_values(InputGrid(grid.formats[0]).to_codes(stored["x_test_tracks"]))
    )
    back = grid.feed(data.inputs.unscaled(data.test.values))[1]
    assert np.abs(back - stored["x_test_calo"]).max() < 0.05  # beyond the training data's range it saturates
    assert data.inputs.names[:3] == ("tracks.0.0", "tracks.0.1", "tracks.1.0") and data.inputs.names[-1] == "calo.2"


def test_a_radius_is_whole_steps_of_each_input(file: Path) -> None:
    data = load_data(file, model=model, inputs_of={"calo": InputConfig(format="ufixed<9,0>")})
    steps = data.inputs.steps(0.25, "value", data.input_shape)
    assert np.asarray(steps).tolist() == [16] * 8 + [128] * 3  # of 1/64 and of 1/512
    assert isinstance(data.describe()["step"], list) and set(data.describe()["inputs"]) == {"tracks", "calo"}


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda d: d.pop("x_test_calo"), {}, "array 'x_test_calo' is missing; an .npz needs x_train_calo, x_test_calo"),
        (lambda d: d.update(x_train_calo=d["x_train_calo"][:5]), {}, "x_train_calo has 5 samples, y_train 60"),
        (lambda d: d.update(x_train_muon=d.pop("x_train_calo"), x_test_muon=d.pop("x_test_calo")), {},
         r"contains x_train_tracks, x_train_muon; the model's inputs \(tracks, calo\) need x_train_tracks, x_train"),
        (lambda d: None, {"cal": InputConfig()}, "data.inputs: no input 'cal'; did you mean 'calo'"),
        (lambda d: None, {"calo": InputConfig(format="fixed<4,-1>")}, "Give data.inputs.calo.format: fixed<4,1>"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, settings: Any, message: str) -> None:
    held = arrays(np.random.default_rng(0))
    change(held)
    np.savez(tmp_path / "own.npz", **held)
    with pytest.raises(UserError, match=message):
        load_data(tmp_path / "own.npz", model=model, inputs_of=settings)


def test_several_inputs_need_a_model_and_a_model_of_several_needs_them(file: Path) -> None:
    with pytest.raises(UserError, match=r"2 inputs \(calo, tracks\): only a trained Keras model of your own"):
        load_data(file)
    with pytest.raises(UserError, match=r"digits: contains x_train; the model's inputs \(tracks, calo\) need"):
        load_data("digits", model=model)
