"""What is attacked: the names and bits its rows have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.models import Toolbox

from hw.experiment.attacks import attack_jobs, attacked_images, job_path
from hw.experiment.config import RunConfig
from hw.experiment.contestants import accelerator_of, sources
from hw.experiment.evaluation_config import EvaluationConfig
from hw.experiment.folder import RunFolder
from hw.experiment.model_steps import map_step, quantize_step
from hw.experiment.run import Run
from qmodels.layers import kernel_of, weighted_layers
from qmodels.storage import save_model


@pytest.fixture
def quantized(toolbox: Toolbox, tmp_path: Path) -> Any:
    """A run as far as its quantized model, by the settings of its `quantization` section."""

    def make(**quantization: Any) -> Run:
        save_model(toolbox.float_model, tmp_path / "model.keras")
        run = Run(RunConfig.model_validate({"quantization": quantization}), RunFolder(tmp_path), data=toolbox.data)
        map_step(run)
        quantize_step(run)
        return run

    return make


def test_rows_have_the_bits_of_all_layers(quantized: Any) -> None:
    run = quantized(weight_bits=3)
    assert [source.bits for source in sources(run)] == [None, 3]


def test_rows_have_the_mean_bits_where_layers_differ(quantized: Any) -> None:
    run = quantized(weight_bits=3, layers={"logits": {"weight_bits": 5}})
    sizes = {layer.name: np.size(kernel_of(layer)) for layer in weighted_layers(run.quantized_model)}
    mean = 3 + 2 * sizes["logits"] / sum(sizes.values())
    assert 3 < run.weight_bits < 5 and run.weight_bits == pytest.approx(mean, abs=0.005)
    assert accelerator_of(run).bits == run.weight_bits


def test_an_attack_without_gradients_asks_the_float_model_where_that_is_wanted(quantized: Any) -> None:
    run = quantized(weight_bits=3)
    for wanted, asked in ((False, ["bitsim"]), (True, ["float", "bitsim"])):
        plan = {"attack": {"kind": "square", "queries": 5}, "epsilons_lsb": [8]}
        evaluation = EvaluationConfig.model_validate({"attacks": [plan], "ask_float": wanted})
        run.config = run.config.model_copy(update={"evaluation": evaluation})
        assert [job.source.victim.name for job in attack_jobs(run)] == asked


def test_examples_of_the_float_network_serve_every_run_that_has_it(toolbox: Toolbox, tmp_path: Path) -> None:
    names: dict[float, dict[str, str]] = {}
    plan = {"attack": {"kind": "fgsm"}, "epsilons_lsb": [8], "samples": 7}
    for mu in (0, 15):
        folder = RunFolder(tmp_path / str(mu))
        save_model(toolbox.float_model, folder / "model.keras")
        (folder / "model.keras").write_bytes((tmp_path / "0" / "model.keras").read_bytes())  # a saved file has a date
        config = RunConfig.model_validate({"mapping": {"mu": mu}, "evaluation": {"samples": 5, "attacks": [plan]}})
        run = Run(config, folder, data=toolbox.data)
        folder.mark_done("train", "key", ("model.keras",), 1.0)
        for step in (map_step, quantize_step):
            folder.mark_done(step.__name__.removesuffix("_step"), "key", step(run), 1.0)
        found = list(attack_jobs(run))
        assert {job.samples for job in found} == {7} and len(attacked_images(run).y) == 7
        names[mu] = {f"{c.source.label} {c.source.victim.name}": job_path(run, c).name for c in found}
    assert set(names[0]) < {*names[0], *names[15]} and len(names[15]) == 3
    label = next(key for key in names[0] if key.endswith("float"))
    assert names[0][label] == names[15][label]
    assert len({*names[0].values(), *names[15].values()}) == 4  # all others are the run's own
