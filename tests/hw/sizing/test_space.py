"""DesignPoint points: what makes two of them the same accelerator, and the command that builds one."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest

from hw.experiment.config import dump_config, load_config
from hw.sizing.config import Choice, SizingConfig, load_experiment, load_sizing
from hw.sizing.space import DesignPoint, check_space, command, grid, make_design, unique
from qmodels.errors import UserError

EXPERIMENT = dump_config(load_config(None, {"training.quantization_aware": None}))


def design(**settings: Choice) -> DesignPoint:
    return make_design(EXPERIMENT, "experiment", {key.replace("__", "."): value for key, value in settings.items()})


def test_the_grid_is_every_combination_in_order() -> None:
    assert list(grid({"a": [1, 2], "b": ["x", None]})) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
        {"a": 2, "b": None},
    ]


def test_designs_are_told_apart_by_what_reaches_the_accelerator() -> None:
    base = design(quantization__weight_bits=3)
    assert base.key == design(quantization__weight_bits=3, evaluation__samples=5).key
    assert base.key != design(quantization__weight_bits=4).key
    assert base.key != design(quantization__weight_bits=3, hardware__reuse_factor=4).key
    assert base.key != design(quantization__weight_bits=3, seed=1).key


def test_a_defence_before_the_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"defence\.kind pixeldefend: sizing attacks the network alone"):
        design(defence__kind="pixeldefend")


def test_without_mapping_the_mapped_layers_do_not_matter() -> None:
    same = [design(mapping__mu=0, mapping__layers=[layers]) for layers in ("last-1", "last-2")]
    assert len(unique(same)) == 1
    assert len(unique([design(mapping__mu=7, mapping__layers=[layers]) for layers in ("last-1", "last-2")])) == 2


def test_a_training_is_shared_by_all_that_differ_only_after_it() -> None:
    wide, narrow = design(quantization__weight_bits=8), design(quantization__weight_bits=2, mapping__mu=3)
    assert wide.training_key == narrow.training_key == wide.model_key
    assert wide.training_key != design(training__method="standard").training_key
    assert wide.data_key == design(training__method="standard").data_key


def test_quantization_aware_designs_share_the_float_training_but_not_the_model() -> None:
    wide, narrow = (
        make_design(EXPERIMENT, "e", {"training.quantization_aware": {"epochs": 2}, "quantization.weight_bits": bits})
        for bits in (8, 2)
    )
    assert wide.training_key == narrow.training_key == design().training_key
    assert wide.model_key != narrow.model_key


def test_the_command_survives_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $HOME folder"
    words = shlex.split(command(design(mapping__layers=["fc1"], mapping__mu=3), folder, Path("/data dir"), "name"))
    assert words[:3] == ["robust-hls", "generate", str(folder / "experiment.yaml")]
    assert 'mapping.layers=["fc1"]' in words
    assert words[words.index("--data-dir") + 1] == "/data dir"


@pytest.mark.parametrize("name", ["sizing_digits", "sizing_digits_layers", "sizing_mnist", "sizing_mnist_layers"])
def test_our_sizing_configs(name: str) -> None:
    config = load_sizing(Path(__file__).parents[3] / "configs" / f"{name}.yaml")
    experiment = dump_config(load_config(config.experiment, config.fixed))
    check_space(experiment, name, config.space)
    count = math.prod(len(values) for values in config.space.values())
    layers = {"sizing_digits_layers": 10_000, "sizing_mnist_layers": 2_000}
    assert count >= ({"sizing_digits": 100, "sizing_mnist": 60} | layers)[name]


@pytest.mark.parametrize(
    ("fixed", "space", "epochs"),
    [
        ({}, {}, None),
        ({"training.quantization_aware.epochs": 3}, {}, 3),
        ({}, {"training.quantization_aware.epochs": [1, 2]}, 8),
    ],
)
def test_the_demo_is_rounded_after_training_unless_asked(
    fixed: dict[str, Choice], space: dict[str, list[Choice]], epochs: int | None
) -> None:
    config = SizingConfig(fixed=fixed, space={"quantization.weight_bits": [2, 3], **space})
    aware = load_experiment(config, "x").training.quantization_aware
    assert (aware and aware.epochs) == epochs


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match=r"experiment: mapping\.nu: unknown key"):
        design(mapping__nu=1)
