"""A model of the user's own: how it was read is told, and what is attacked when nobody says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli import Cli
from helpers.models import qkeras_model, write_data

from hw.experiment.plan import default_epsilons
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.loading import load_model
from qmodels.runtime import runtime
from qmodels.storage import save_model

OWN = ("--data", "own.npz", "--out", "run")


def evaluation(cli: Cli) -> Any:
    return yaml.safe_load((cli.folder / "run" / "config.yaml").read_text())["evaluation"]


@pytest.fixture
def own(cli: Cli) -> Cli:
    save_model(qkeras_model(), cli.folder / "own.keras")
    write_data(cli.folder / "own.npz")
    return cli


def test_the_default_plan_is_made_for_the_data_and_trains_nothing(own: Cli) -> None:
    assert own("train", "--model", "own.keras", *OWN).status == 0
    plan = evaluation(own)
    kinds = [(item["attack"]["kind"], item["epsilons_lsb"], item["samples"]) for item in plan["attacks"]]
    assert kinds == [("fgsm", [4, 8, 16], None), ("pgd-linf", [4, 8, 16], None), ("worst-case", [8], 12)]
    assert plan["samples"] == 12 and plan["black_box"] == []  # the data has 12 test images
    assert yaml.safe_load((own.folder / "run" / "config.yaml").read_text())["mapping"]["mu"] == 0  # nor the demo's


def test_the_default_plan_is_told(own: Cli) -> None:
    """The attacks are not run: g++ is taken away, and the run ends at its simulators."""
    own.monkeypatch.setenv("ROBUST_HLS_GXX", "/nowhere/g++")
    own("train", "--model", "own.keras", *OWN)
    outcome = own("attack", "run", "--resume")
    assert "plan: fgsm at ε 4, 8, 16 on 12; pgd-linf at ε 4, 8, 16 on 12; worst-case at ε 8 on 12 test" in outcome.out
    assert outcome.status == 3


def test_your_own_plan_takes_its_place(own: Cli) -> None:
    (own.folder / "plan.yaml").write_text("evaluation: {attacks: [{attack: {kind: fgsm}, epsilons_lsb: [3]}]}\n")
    assert own("train", "--model", "own.keras", *OWN, "--plan", "plan.yaml").status == 0
    assert [item["epsilons_lsb"] for item in evaluation(own)["attacks"]] == [[3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {name: digits}\n", "plan.yaml: no evaluation section; --plan takes a config with evaluation:"),
        ("evaluation: {attacks: [{attack: {kind: fgsn}, epsilons_lsb: [3]}]}\n", "did you mean 'fgsm'?"),
    ],
)
def test_a_wrong_plan_is_told(own: Cli, text: str, message: str) -> None:
    (own.folder / "plan.yaml").write_text(text)
    assert message in own.refuses("train", "--model", "own.keras", *OWN, "--plan", "plan.yaml")


def test_radii_suit_the_grid() -> None:
    assert default_epsilons(IMAGE_GRID) == (4, 8, 16)
    assert default_epsilons(InputGrid(FixedPoint(12, 4, signed=True))) == (41, 82, 164)  # of 4096 codes
    assert default_epsilons(InputGrid(FixedPoint(4, 0, signed=False))) == (1,)
    wide = InputGrid(FixedPoint(12, 4, signed=True), lower=np.array([-100, 0, -2000]), upper=np.array([100, 100, 2000]))
    assert default_epsilons(wide) == (2, 4, 8)  # of the feature in the middle


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_how_the_file_was_read_is_told(own: Cli) -> None:
    qkeras_model().save(own.folder / "other.h5", save_format="h5")
    (own.folder / "other.h5").rename(own.folder / "other.keras")
    outcome = own("train", "--model", "other.keras", *OWN)
    assert "model: other.keras is an HDF5 file, and was read as one" in outcome.out


def test_a_saved_model_folder_is_a_model(own: Cli) -> None:
    qkeras_model().save(own.folder / "folder", save_format="tf")
    outcome = own("train", "--model", "folder", *OWN)
    assert outcome.status == 0, outcome.err
    assert (own.folder / "run" / "quantized.keras").is_file()


def test_a_float_model_is_quantized_or_taken_as_it_is_whatever_was_done_before(own: Cli) -> None:
    keras = runtime().keras
    layers = keras.layers.Activation("linear", name="input_grid"), keras.layers.Flatten(name="flatten")
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(3, name="logits")])
    model.save(own.folder / "f.keras")

    def kinds(*settings: str) -> list[str]:
        assert own("generate", "--model", "f.keras", *OWN, *settings).status == 0
        return [type(layer).__name__ for layer in load_model(own.folder / "run" / "quantized.keras").layers]

    assert "QDense" in kinds()
    assert "Dense" in kinds("--resume", "--set", "exactness=reported")
    assert "QDense" in kinds("--resume")


def test_a_folder_that_is_no_model_is_told(own: Cli) -> None:
    (own.folder / "empty").mkdir()
    assert "empty" in own.refuses("train", "--model", "empty", *OWN)
