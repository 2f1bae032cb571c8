"""A model of another scale of the pixels is told apart from one that is merely bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli
from helpers.models import Toolbox, qkeras_model, weight_quantizers

from qmodels.data import Dataset, InputConfig, load_data
from qmodels.errors import UserError
from qmodels.pixel_scale import check_scale
from qmodels.runtime import runtime
from qmodels.storage import save_model

CENTRES = (40, 120, 200)


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    """Pictures of one brightness, near one of three: their class."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % 3
    x = np.array(CENTRES)[y, None, None, None] + rng.integers(-30, 31, (160, 2, 2, 1))
    path = tmp_path / "bright.npz"
    np.savez(path, x_train=x[:120].astype(np.uint8), y_train=y[:120], x_test=x[120:].astype(np.uint8), y_test=y[120:])
    return path


def nearest_centre(unit: float) -> Any:
    """A model that is right on pixels times `unit`: its logits grow towards the nearest centre."""
    keras = runtime().keras
    image = keras.Input((2, 2, 1), name="image")
    x = keras.layers.Activation("linear", name="input_grid")(image)
    logits = keras.layers.Dense(3, name="logits")
    model = keras.Model(image, logits(keras.layers.Flatten(name="flatten")(x)), name="centres")
    centres = np.array(CENTRES) / 256
    logits.set_weights([np.tile(centres / 4, (4, 1)), -(centres**2) / 2 * 256 * unit])
    return model


def raw(path: Path) -> Dataset:
    return load_data(str(path), inputs=InputConfig(format="ufixed<8,8>"))


def test_a_model_of_0_to_255_is_refused_on_k_256_and_the_setting_is_named(bright: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_scale(nearest_centre(1), load_data(str(bright)), "own.keras")
    told = str(caught.value)
    assert told.startswith("own.keras: is right on ") and "training samples as they are given to it (k/256)" in told
    assert told.endswith("and on 100.0 % on the scale 0..255. Set data.input.format: ufixed<8,8>")
    check_scale(nearest_centre(1), raw(bright), "own.keras")


def test_the_scale_is_looked_at_once(cli: Cli, bright: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began remembers it: for that model file and those data only."""
    looked: list[str] = []
    monkeypatch.setattr("hw.experiment.preflight.check_scale", lambda model, data, where: looked.append(where))
    save_model(nearest_centre(1 / 256), cli.folder / "own.keras")
    command = ("train", "--model", "own.keras", "--data", bright, "--out", "run")
    assert cli(*command).status == 0
    assert cli(*command, "--resume").status == 0
    assert len(looked) == 1
    assert cli(*command, "--resume", "--set", "data.limit_train=100").status == 0
    assert len(looked) == 2
    save_model(nearest_centre(1 / 250), cli.folder / "own.keras")
    assert cli(*command, "--resume", "--set", "data.limit_train=100").status == 0
    assert len(looked) == 3


def test_a_model_of_k_256_is_refused_on_0_to_255(bright: Path) -> None:
    with pytest.raises(UserError, match=r"on the scale k/256. Set data.input.format: ufixed<8,0>"):
        check_scale(nearest_centre(1 / 256), raw(bright), "own.keras")


@pytest.mark.parametrize("unit", [1 / 256, 1 / 255])
def test_models_of_k_256_and_of_k_255_both_pass(bright: Path, unit: float) -> None:
    check_scale(nearest_centre(unit), load_data(str(bright)), "own.keras")


def test_a_bad_model_passes(toolbox: Toolbox) -> None:
    data = load_data("digits")
    check_scale(qkeras_model(shape=(8, 8, 1), classes=10, **weight_quantizers()), data, "own.keras")
    check_scale(toolbox.quantized.model, data, "own.keras")


def test_data_that_are_no_pixels_are_not_looked_at() -> None:
    check_scale(None, load_data("wine", inputs=InputConfig(scale="standard")), "own.keras")


@pytest.mark.gxx
def test_pixels_0_to_255_work_end_to_end(cli: Cli, bright: Path) -> None:
    save_model(nearest_centre(1), cli.folder / "raw.keras")
    words = ("--model", "raw.keras", "--data", bright.name)
    assert "Set data.input.format: ufixed<8,8>" in cli.refuses("run", *words)
    plan = "{samples: 40, attacks: [{attack: {kind: pgd-linf, steps: 5}, epsilons_lsb: [64]}]}"
    bits = "{weight_bits: 8, bias_bits: 16}"
    settings = {"data.input.format": "ufixed<8,8>", "evaluation": plan, "quantization": bits, "mapping.mu": "0"}
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = cli("run", *words, *sets, "--out", "raw")
    assert done.status == 0, done.err
    results = json.loads((cli.folder / "raw" / "results.json").read_text())
    assert results["exactness"]["mismatched_outputs"] == 0
    clean = {row["victim"]: row["accuracy"] for row in results["rows"] if row["attack"] == "clean"}
    assert clean["bitsim"] == clean["quantized"] > 0.9
