"""From the user's numbers to codes and back: formats, scaling, bounds, frozen features, saturation, ε in any unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qmodels.attacks import parse_attack
from qmodels.data import InputConfig, Inputs, load_data
from qmodels.data.inputs import auto_format, encode_numbers
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, Codes, InputGrid
from qmodels.runtime import runtime
from qmodels.victims import GradientModel, Logits

SHAPES = st.sampled_from([(3,), (5, 2), (2, 3, 2)])


def table(rng: np.random.Generator, shape: tuple[int, ...], spread: float = 1.0) -> list[np.ndarray]:
    """Training, validation and test numbers; every feature has its own place and spread."""
    scale, offset = rng.uniform(0.5, 4, shape[-1]) * spread, rng.normal(0, 3, shape[-1]) * spread
    return [rng.normal(size=(count, *shape)).clip(-3, 3) * scale + offset for count in (40, 10, 10)]


def encoded(
    parts: list[np.ndarray], names: tuple[str, ...] = (), **config: Any
) -> tuple[list[Codes], InputGrid, Inputs]:
    return encode_numbers(parts, InputConfig(**config), names, "here", lambda: None)


@given(st.integers(0, 2**20), SHAPES, st.sampled_from(["none", "standard", "min-max"]), st.integers(10, 20))
def test_numbers_come_back_from_codes_to_half_a_step(seed: int, shape: tuple[int, ...], scale: Any, width: int) -> None:
    parts = table(np.random.default_rng(seed), shape)
    codes, grid, inputs = encoded(parts, scale=scale, format=f"fixed<{width},8>")
    for numbers, part in zip(parts, codes, strict=True):
        assert part.dtype == grid.dtype
        back = inputs.unscaled(grid.to_values(part))
        allowed = 0.5 * inputs.format.lsb * (1 if inputs.divisor is None else inputs.divisor)
        assert (np.abs(back - numbers) <= allowed * (1 + 1e-6)).all()
        np.testing.assert_array_equal(InputGrid(inputs.format).to_codes(inputs.scaled(back)), part)


@given(st.integers(0, 2**20), SHAPES, st.sampled_from(["none", "standard", "min-max"]))
def test_bounds_are_the_training_range_rounded_outwards(seed: int, shape: tuple[int, ...], scale: Any) -> None:
    parts = table(np.random.default_rng(seed), shape)
    codes, grid, inputs = encoded(parts, scale=scale, format="fixed<14,8>")
    train = inputs.scaled(parts[0]).reshape(-1, shape[-1]) / inputs.format.lsb
    low, high = (np.broadcast_to(bound, shape).reshape(-1, shape[-1]) for bound in (grid.lower, grid.upper))
    assert (low <= train.min(0)).all() and (low + 1 > train.min(0)).all()
    assert (high >= train.max(0)).all() and (high - 1 < train.max(0)).all()
    assert (codes[0] >= grid.lower).all() and (codes[0] <= grid.upper).all()


def test_scaling_is_fitted_on_training_data_only() -> None:
    train, validation, test = table(np.random.default_rng(0), (3,))
    _, grid, inputs = encoded([train, validation, test], scale="standard")
    _, same, again = encoded([train, validation * 0.5, test * 0.1], scale="standard")
    assert inputs.as_json()["offset"] == again.as_json()["offset"]
    assert grid == same
    np.testing.assert_allclose(inputs.offset, train.mean(0))
    np.testing.assert_allclose(inputs.deviation, np.ones(3))
    _, _, small = encoded([train, validation, test], scale="min-max")
    scaled = small.scaled(train)
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_a_constant_feature_is_only_moved() -> None:
    parts = [
        np.concatenate([part, np.full((len(part), 1), 7.0)], axis=1) for part in table(np.random.default_rng(0), (2,))
    ]
    codes, grid, inputs = encoded(parts, scale="standard")
    assert (codes[0][:, 2] == 0).all() and grid.lower[2] == grid.upper[2] == 0
    assert inputs.steps(0.5, "sigma", (3,))[2] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("largest", "expected"), [(0.5, 1), (0.999, 1), (1.0, 2), (3.9, 3), (4.0, 4), (1e-9, 1), (250, 9)]
)
def test_an_automatic_format_holds_the_largest_number_as_finely_as_it_can(largest: float, expected: int) -> None:
    fmt = auto_format(np.array([[-largest / 2], [largest]]))
    assert (fmt.width, fmt.integer, fmt.signed) == (12, expected, True)
    assert fmt.maximum + fmt.lsb > largest and (fmt.maximum < 2 * largest + 1 or expected == 1)


def test_the_models_format_comes_before_the_automatic_one_and_the_given_one_before_both() -> None:
    parts, model = table(np.random.default_rng(0), (2,)), FixedPoint(16, 7)
    assert encode_numbers(parts, InputConfig(), (), "here", lambda: model)[2].format == model
    own = encode_numbers(parts, InputConfig(format="fixed<20,8>"), (), "here", lambda: model)[2].format
    assert (own.width, own.integer) == (20, 8)


def test_a_few_saturating_numbers_are_told_and_many_are_refused() -> None:
    parts = [np.linspace(-1, 0.99, 400).reshape(200, 2) for _ in range(3)]
    parts[2][0, 0] = 5.0
    codes, _, inputs = encoded(parts, format="fixed<8,1>")
    assert codes[2].max() == 127
    assert inputs.notes == ("0.083 % of the data lie beyond the input format fixed<8,1>, and saturate",)
    with pytest.raises(UserError, match=r"x_train ranges over -3..2.97; 66 % of it lies beyond the input form"):
        encoded([part * 3 for part in parts], format="fixed<8,1>")


def test_features_that_vanish_in_the_rounding_are_named() -> None:
    parts = [part * [1, 1e-6] + [0, 0.25] for part in table(np.random.default_rng(0), (2,))]
    with pytest.raises(UserError, match=r"features tiny .*data.input.scale: standard"):
        encoded(parts, names=("large", "tiny"))
    told = encoded(parts, names=("large", "tiny"), format="fixed<16,8>")[2].notes
    assert told == ("steps of 0.00390625 are too coarse for tiny: always one code",)
    encoded(parts, names=("large", "tiny"), scale="standard")


def test_bounds_of_the_users_own_are_in_his_unit() -> None:
    parts = [np.full((20, 2), 10.0) + np.linspace(-4, 4, 20)[:, None] for _ in range(3)]
    _, grid, inputs = encoded(parts, scale="standard", lower=[10, 8], upper=12)
    values = inputs.unscaled(np.stack([grid.lower, grid.upper]) * inputs.format.lsb)
    step = float(inputs.format.lsb * inputs.divisor[0])  # type: ignore[index]
    np.testing.assert_allclose(values, [[10, 8], [12, 12]], atol=step)
    _, whole, _ = encoded(parts, lower="format", upper="format", format="fixed<10,6>")
    assert (whole.lower, whole.upper) == (-512, 511)
    with pytest.raises(UserError, match=r"data.input.lower has 3 numbers; the data have 2 features"):
        encoded(parts, lower=[1, 2, 3])
    with pytest.raises(UserError, match=r"lower lies above upper"):
        encoded(parts, lower=12, upper=10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "float16"}, "'float16' is no format; allowed: auto, or fixed<16,6>"),
        ({"format": "fixed<25,6>"}, "has 25 bits; allowed: up to 24"),
        ({"lower": "dataa"}, "'dataa' is no bound; allowed: data, format, a number"),
        ({"upper": [1, float("nan")]}, "is no bound"),
        ({"scale": "log"}, "'log' is no scale; allowed: none, standard, min-max"),
    ],
)
def test_settings_that_are_none(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        InputConfig(**settings)
    assert message in str(caught.value)


def test_features_are_frozen_by_name_or_place() -> None:
    names = ("age", "dose", "colour")
    parts = table(np.random.default_rng(0), (3,))
    by_name = encoded(parts, names=names, frozen=["dose", 2])[1].frozen
    np.testing.assert_array_equal(by_name, [False, True, True])
    with pytest.raises(UserError, match=r"no feature 'doze'; did you mean 'dose'"):
        encoded(parts, names=names, frozen=["doze"])
    with pytest.raises(UserError, match=r"no feature 3; allowed: 0..2"):
        encoded(parts, names=names, frozen=[3])
    with pytest.raises(UserError, match=r"the data name none: give places"):
        encoded(parts, frozen=["age"])
    with pytest.raises(UserError, match=r"all features are frozen"):
        encoded(parts, frozen=[0, 1, 2])
    channel = encoded(table(np.random.default_rng(0), (5, 2)), frozen=[1])[1].frozen
    assert channel is not None and channel[:, 1].all() and not channel[:, 0].any()


class Linear:
    """Two classes told apart by the sum of the features."""

    name = "float"

    def __init__(self, grid: InputGrid) -> None:
        self.grid = grid

    def logits(self, x: Codes) -> Logits:
        total = self.grid.to_values(x).reshape(len(x), -1).sum(axis=1)
        return np.stack([total, -total], axis=1)


@given(st.integers(0, 2**20), st.sampled_from([0.1, 0.5, 2.0]))
def test_an_attack_leaves_what_is_frozen_by_name_and_moves_others_as_far_as_sigma_says(seed: int, sigma: float) -> None:
    parts = table(np.random.default_rng(seed), (3,))
    codes, grid, inputs = encoded(parts, names=("a", "b", "c"), frozen=["b"], format="fixed<16,8>")
    steps = inputs.steps(sigma, "sigma", (3,))
    victim = Linear(grid)
    y = victim.logits(codes[2]).argmax(axis=1)
    found = parse_attack({"kind": "square", "queries": 20})(victim, codes[2], y, epsilon_lsb=steps, seed=seed)
    change = np.abs(found.x.astype(np.int64) - codes[2])
    assert (change[:, 1] == 0).all() and (change <= steps).all() and change.max() > 0
    values = change * inputs.format.lsb
    assert (values <= sigma * parts[0].std(axis=0) + inputs.format.lsb / 2).all()


@given(st.integers(0, 2**20), SHAPES, st.floats(0.05, 3), st.sampled_from(["value", "sigma"]))
def test_a_radius_is_the_nearest_whole_number_of_steps(
    seed: int, shape: tuple[int, ...], epsilon: float, unit: Any
) -> None:
    parts = table(np.random.default_rng(seed), shape)
    for scale in ("none", "standard", "min-max"):
        inputs = encoded(parts, scale=scale, format="fixed<16,8>")[2]
        steps = np.broadcast_to(inputs.steps(epsilon, unit, shape), shape).reshape(-1, shape[-1])
        reached = steps * inputs.format.lsb * (1 if inputs.divisor is None else inputs.divisor)
        wanted = epsilon * (parts[0].reshape(-1, shape[-1]).std(axis=0) if unit == "sigma" else np.ones(shape[-1]))
        half = inputs.format.lsb / 2 * (1 if inputs.divisor is None else inputs.divisor)
        assert (np.abs(reached - wanted) <= half * (1 + 1e-6)).all()


def test_sigma_of_standardized_features_is_one_number() -> None:
    inputs = encoded(table(np.random.default_rng(0), (3,)), scale="standard", format="fixed<10,5>")[2]
    assert inputs.steps(0.25, "sigma", (3,)) == pytest.approx(8)
    assert inputs.steps(3, "lsb", (3,)) == 3
    assert inputs.steps(float("inf"), "value", (3,)) == float("inf")


def image_data(path: Path, scale: float) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1))
    pixels[:, 0, 0] = 255
    y = np.arange(40) % 2
    x = (pixels * scale).astype(np.float32)
    np.savez(path, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    return path


def test_pixels_keep_their_codes_whatever_value_an_8_bit_format_gives_them(tmp_path: Path) -> None:
    path = image_data(tmp_path / "pixels.npz", 1.0)
    usual = load_data(str(path))
    raw = load_data(str(path), inputs=InputConfig(format="ufixed<8,8>"))
    assert usual.grid is IMAGE_GRID
    np.testing.assert_array_equal(usual.train.x, raw.train.x)
    np.testing.assert_array_equal(raw.train.values, raw.train.x)
    np.testing.assert_array_equal(usual.train.values * 256, raw.train.x)
    assert raw.digest != usual.digest


def test_sigma_of_pixels_is_that_of_the_training_pictures(tmp_path: Path) -> None:
    data = load_data(str(image_data(tmp_path / "pixels.npz", 1.0)))
    assert data.inputs.plain and data.grid is IMAGE_GRID
    assert data.inputs.steps(0.5, "sigma", data.input_shape) == pytest.approx(data.train.x.std() / 2)
    assert data.inputs.steps(0.25, "value", data.input_shape) == 64


def test_pixels_may_be_scaled_as_other_numbers_are(tmp_path: Path) -> None:
    path = image_data(tmp_path / "pixels.npz", 1.0)
    data = load_data(str(path), inputs=InputConfig(format="fixed<12,4>", scale="standard"))
    assert data.grid.format.signed and abs(float(data.train.values.mean())) < 0.1


def flattening(shape: tuple[int, ...]) -> Any:
    keras = runtime().keras
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten()])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 1, 1)])
def test_last_axes_of_size_one_come_and_go_as_the_model_wants_them(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = image_data(tmp_path / "pixels.npz", 1.0)
    data = load_data(str(path), model=lambda: flattening(shape))
    assert data.input_shape == shape
    assert load_data(str(path), model=lambda: flattening((16,))).input_shape == (4, 4, 1)  # the mend is told later


def test_gradients_know_the_grid() -> None:
    grid = InputGrid(FixedPoint(10, 5))
    model = type("Model", (), {"name": "double", "__call__": lambda self, x, training: 2 * x})()
    assert GradientModel(model, grid).outputs(np.float32(32)) == 2.0


@pytest.mark.parametrize(("scale", "shift"), [(4096, 12), (0.25, -2), (1, 0), (3, 0), (100.0, 0)])
def test_a_number_divides_and_a_power_of_two_is_known(scale: float, shift: int) -> None:
    numbers = np.random.default_rng(0).uniform(-50, 50, (40, 3))
    config = InputConfig(scale=scale, format="fixed<20,9>")
    (codes, *_), grid, inputs = encode_numbers([numbers] * 3, config, (), "own", lambda: None)
    np.testing.assert_allclose(grid.to_values(codes), numbers / scale, atol=2.0**-12)
    np.testing.assert_allclose(inputs.unscaled(grid.to_values(codes)), numbers, atol=scale * 2.0**-12)
    assert inputs.shift == shift and inputs.as_json()["scale"] == scale
    assert any("is no power of two: divide your numbers before" in note for note in inputs.notes) == (scale in (3, 100))


@pytest.mark.parametrize("scale", [0, -2, np.inf, np.nan, True, "std", None])
def test_what_is_no_scale_is_refused(scale: Any) -> None:
    with pytest.raises(ValidationError, match="is no scale; allowed: none, standard, min-max, or a number above 0"):
        InputConfig(scale=scale)
