"""The experiment: every default written out, and what was written reads back as the same experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hw.experiment.config import RunConfig, dump_config, load_config
from hw.experiment.folder import RunFolder
from hw.experiment.open import open_run
from hw.experiment.settings import merge, read_settings
from qmodels.errors import UserError

ROOT = Path(__file__).parents[3]


OTHERS = ("sizing_", "tables_")  # configs that name an experiment
EXPERIMENTS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if not path.name.startswith(OTHERS)]


@pytest.mark.parametrize("source", [None, *EXPERIMENTS], ids=str)
def test_what_is_written_out_reads_back_as_the_same_experiment(source: Path | None, tmp_path: Path) -> None:
    config = load_config(source)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_every_default_is_written_out() -> None:
    def keys(value: object) -> set[str]:
        return set(value) | {k for item in value.values() for k in keys(item)} if isinstance(value, dict) else set()

    written = yaml.safe_load(dump_config(RunConfig()))
    assert set(written) == set(RunConfig.model_fields)
    for section, field in RunConfig.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            assert set(written[section]) == set(field.annotation.model_fields), section
    assert {"mu", "weight_bits", "part", "epochs", "epsilon_lsb", "engine"} <= keys(written)


def test_the_embedded_demo_is_the_one_in_configs() -> None:
    assert load_config(None) == load_config(ROOT / "configs" / "digits.yaml")


def test_settings_override_the_file_in_order_and_keep_the_rest(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("mapping: {mu: 3, layers: [last-1]}\n")
    config = load_config(
        tmp_path / "x.yaml", read_settings(["mapping.mu=7", "hardware.io_type=io_stream", "mapping.mu=9"])
    )
    assert (config.mapping.mu, config.mapping.layers) == (9.0, ("last-1",))
    assert config.hardware.io_type == "io_stream"


def test_of_settings_given_twice_the_last_counts_at_its_place() -> None:
    words = ["a.b=1", "a={c: 2}", "a.b=3"]
    assert merge({"a": {"d": 0}, "e": 1}, read_settings(words)) == {"a": {"b": 3, "c": 2}, "e": 1}


def test_a_merge_leaves_what_it_was_given_and_keeps_values_as_they_are() -> None:
    """A text that looks like a number or a date stays one: nothing is written down and read back."""
    raw: dict[str, Any] = {"a": {"b": [1]}}
    settings = {"a.c": {"d": "2024-01-01"}, "a.c.e": 1e-05, "a.b": "1e3"}
    merged = merge(raw, settings)
    assert merged == {"a": {"b": "1e3", "c": {"d": "2024-01-01", "e": 1e-05}}}
    merged["a"]["c"]["f"] = 0
    assert raw == {"a": {"b": [1]}} and settings["a.c"] == {"d": "2024-01-01"}
    with pytest.raises(UserError, match=r"fixed: 'a\.b\.c': 'b' is a value, not a section"):
        merge(raw, {"a.b.c": 1}, "fixed:")


@pytest.mark.parametrize("epsilon", ["255", "1", "[8, 76]"])
def test_epsilons_at_the_ends_of_the_range_are_taken(epsilon: str) -> None:
    values = epsilon if epsilon.startswith("[") else f"[{epsilon}]"
    config = load_config(
        None, read_settings([f"evaluation.attacks=[{{attack: {{kind: bim}}, epsilons_lsb: {values}}}]"])
    )
    assert config.evaluation.attacks[0].epsilons_lsb == tuple(float(v) for v in yaml.safe_load(values))


def test_no_bound_survives_the_round_trip(tmp_path: Path) -> None:
    config = load_config(
        None, read_settings(["evaluation.attacks=[{attack: {kind: pgd-l2}, epsilons_lsb: [400, .inf]}]"])
    )
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml").evaluation == config.evaluation


def test_options_name_the_run_after_the_model_and_settings_win(tmp_path: Path) -> None:
    (tmp_path / "my net.keras").write_bytes(b"")
    by_option = open_run(None, model=tmp_path / "my net.keras", data="mnist")
    assert (by_option.config.name, by_option.config.data.name) == ("my_net", "mnist")
    assert by_option.folder.path == Path("hls_projects/my_net")
    named = open_run(None, {"name": "chosen"}, model=tmp_path / "my net.keras")
    assert named.folder.path == Path("hls_projects/chosen")


def test_a_run_folder_is_a_config_and_is_resumed(tmp_path: Path) -> None:
    RunFolder(tmp_path).claim()
    (tmp_path / "config.yaml").write_text(dump_config(load_config(None, {"seed": 5})))
    run = open_run(tmp_path)
    assert (run.config.seed, run.folder.path) == (5, tmp_path)
    elsewhere = open_run(tmp_path, out=tmp_path.parent / "copy")
    assert elsewhere.folder.path == tmp_path.parent / "copy"
    with pytest.raises(UserError, match="already contains a run"):
        open_run(None, out=tmp_path)


OTHER = "evaluation.black_box=[{name: other"


def test_a_black_box_model_takes_what_it_does_not_name_from_the_run_except_seed_mapping_and_bits() -> None:
    config = load_config(None, read_settings([OTHER + "}]", "seed=4"]))
    (model,) = config.evaluation.black_box
    apart = config.apart(model)
    assert (apart.name, apart.seed, apart.mapping.mu) == ("other", 5, 0.0)
    assert (apart.model, apart.training, apart.data) == (config.model, config.training, config.data)
    assert apart.evaluation.attacks == () and apart.evaluation.black_box == ()
    named = load_config(None, read_settings([OTHER + ", seed: 9, model: {architecture: mlp}, mapping: {mu: 3}}]"]))
    again = named.apart(named.evaluation.black_box[0])
    assert (again.seed, again.model.architecture, again.mapping.mu) == (9, "mlp", 3.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([OTHER + "}, {name: other}]"], r"2 models are named 'other'"),
        (["evaluation.black_box=[{seed: 1}]"], r"evaluation\.black_box\.0\.name: is missing"),
        ([OTHER + ", modle: {}}]"], r"black_box\.0\.modle: unknown key; did you mean 'model'"),
        ([OTHER + ", training: {epoch: 3}}]"], r"training\.epoch: unknown key; did you mean 'epochs'"),
        ([OTHER + ", model: {architecture: mpl}}]"], r"'mpl' is not allowed; did you mean 'mlp'"),
        (["evaluation.black_box=[{name: ../x}]"], r"black_box\.0\.name: "),
        ([OTHER + "}]", "model.file=own.keras"], r"other has no model section"),
    ],
)  # fmt: skip
def test_bad_black_box_models_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(None, read_settings(settings))
