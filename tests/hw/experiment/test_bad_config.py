"""Wrong configs: one message that names file, key, what is allowed and how to mend it; status 2; nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import Cli

from hw.experiment.config import RunConfig
from hw.experiment.folder import RunFolder

SECTIONS = ", ".join(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainin.epochs=3", f"trainin: unknown key; did you mean 'training'? (allowed: {SECTIONS})"),
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("zzz=1", f"zzz: unknown key (allowed: {SECTIONS})"),
        ("evaluation.attacks=[{attack: {kind: fgsm}, epsilon: [1]}]", "did you mean 'epsilons_lsb'?"),
        (
            "evaluation.attacks=[{attack: {kind: pgd-linf, stps: 3}, epsilons_lsb: [1]}]",
            "evaluation.attacks.0.attack.stps: unknown key; did you mean 'steps'?",
        ),
        (
            "evaluation.attacks=[{attack: {kind: pdg-linf}, epsilons_lsb: [1]}]",
            "evaluation.attacks.0.attack.kind: unknown attack 'pdg-linf'; did you mean 'pgd-linf'? (allowed: ",
        ),
        ("evaluation.attacks=[{attack: {}, epsilons_lsb: [1]}]", "attack: kind is missing (allowed: "),
        ("training.method=feedbak", "training.method: 'feedbak' is not allowed; did you mean 'feedback'? (allowed: "),
        (
            "model.architecture=resnet",
            "model.architecture: 'resnet' is not allowed; did you mean 'resnet8'? "
            "(allowed: mlp, cnn, cnn4, resnet8, mobilenet_v1_025, wrn32, coffee_cnn)",
        ),
    ],
)
def test_a_misspelt_key_is_told_with_the_nearest_valid_one(cli: Cli, setting: str, message: str) -> None:
    told = cli.refuses("run", "--set", setting)
    assert told.startswith("robust-hls: --set: ")
    assert message in told


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=abc", "seed: input should be a valid integer, unable to parse string as an integer; got 'abc'"),
        ("seed=-1", "seed: input should be greater than or equal to 0; got -1"),
        ("training=7", "training: must be a section of `key: value` lines; got 7"),
        ("training=", "training: must be a section of `key: value` lines; got None"),
        ("evaluation.attacks=5", "evaluation.attacks: must be a list, as in [a, b]; got 5"),
        ("training.epochs=2.5", "training.epochs: input should be a valid integer"),
        ("data.name=3", "data.name: input should be a valid string; got 3"),
        ("data.limit_train=many", "data.limit_train: input should be a valid integer"),
        ("model.hidden=[64, 0]", "model.hidden.1: input should be greater than 0; got 0"),
        ("model.filters=[16, -3]", "model.filters.1: input should be greater than 0; got -3"),
        ("name=[a]", "name: input should be a valid string; got ['a']"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_in_words_of_yaml(cli: Cli, setting: str, message: str) -> None:
    assert f"robust-hls: --set: {message}" in cli.refuses("run", "--set", setting)


@pytest.mark.parametrize(
    ("setting", "limit"),
    [
        ("quantization.weight_bits=1", "greater than or equal to 2; got 1"),
        ("quantization.weight_bits=17", "less than or equal to 16; got 17"),
        ("quantization.activation_bits=0", "greater than or equal to 2; got 0"),
        ("quantization.bias_bits=17", "less than or equal to 16; got 17"),
        ("mapping.mu=-1", "greater than or equal to 0; got -1"),
        ("mapping.mu=1e7", "1000000"),
        ("mapping.mu=.nan", "got nan"),
        ("mapping.mu=.inf", "got inf"),
        ("hardware.clock_period_ns=0", "greater than or equal to 0.5; got 0"),
        ("hardware.clock_period_ns=-5", "got -5"),
        ("hardware.clock_period_ns=1e9", "less than or equal to 1000"),
        ("hardware.clock_period_ns=.nan", "got nan"),
        ("hardware.reuse_factor=0", "must be auto or a whole number from 1 to 1000000; got 0"),
        ("training.adversarial.epsilon_lsb=16777216", "less than or equal to 16777215; got 16777216"),
        ("training.adversarial.epsilon_lsb=-1", "greater than 0; got -1"),
        ("training.learning_rate=.inf", "must be a finite number"),
        ("training.learning_rate=.nan", "got nan"),
        ("data.validation_share=1", "less than 0.9; got 1"),
        ("evaluation.samples=0", "greater than or equal to 1; got 0"),
    ],
)
def test_a_number_out_of_range_is_told_with_the_range(cli: Cli, setting: str, limit: str) -> None:
    key = setting.partition("=")[0]
    message = cli.refuses("run", "--set", setting)
    assert f"--set: {key}: " in message
    assert limit in message


WHOLE = "whole numbers 1 .. 16777215 LSB, of 8-bit images .. 255"


@pytest.mark.parametrize(
    ("kind", "epsilon", "message"),
    [
        ("pgd-linf", "-8", f"pgd-linf cannot use -8, allowed: {WHOLE}"),
        ("pgd-linf", "0", f"pgd-linf cannot use 0, allowed: {WHOLE}"),
        ("bim", ".nan", f"bim cannot use nan, allowed: {WHOLE}"),
        ("mim", ".inf", f"mim cannot use inf, allowed: {WHOLE}"),
        ("uniform", "2e7", "uniform cannot use 2e+07"),
        ("fgsm", "0.3", f"fgsm cannot use 0.3, allowed: {WHOLE}; 0.3 of the pixel range is 76.8 LSB"),
        ("bim", "7.65", f"bim cannot use 7.65, allowed: {WHOLE}"),
        ("pgd-l2", "-1", "pgd-l2 cannot use -1, allowed: above 0 LSB, or .inf for no bound"),
        ("pgd-l2", ".nan", "pgd-l2 cannot use nan"),
    ],
)
def test_an_epsilon_that_the_attack_cannot_use(cli: Cli, kind: str, epsilon: str, message: str) -> None:
    plan = f"evaluation.attacks=[{{attack: {{kind: {kind}}}, epsilons_lsb: [8, {epsilon}]}}]"
    assert f"evaluation.attacks.0: epsilons_lsb: {message}" in cli.refuses("run", "--set", plan)


def test_an_attack_without_epsilons_is_refused(cli: Cli) -> None:
    plan = "evaluation.attacks=[{attack: {kind: fgsm}, epsilons_lsb: []}]"
    assert "evaluation.attacks.0.epsilons_lsb: " in cli.refuses("run", "--set", plan)


EVIL_NAMES = [
    "..",
    "../up",
    "a/b",
    "/etc",
    "a b",
    "a'b",
    'a"b',
    "a;b",
    "[exec ls]",
    "$(ls)",
    "a\nb",
    "",
    "-rf",
    "x" * 64,
]


@pytest.mark.parametrize("name", EVIL_NAMES)
@pytest.mark.parametrize("key", ["name", "hardware.project_name"])
def test_a_name_that_is_no_plain_word_reaches_no_path_and_no_script(cli: Cli, key: str, name: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    message = cli.refuses("run", "--set", f"{key}={quoted}")
    assert f"{key}: string should match pattern '^[A-Za-z" in message


@pytest.mark.parametrize("name", ["int", "main", "class", "nnet", "input"])
def test_a_top_function_cannot_be_called_like_a_word_of_cpp(cli: Cli, name: str) -> None:
    message = cli.refuses("run", "--set", f"hardware.project_name={name}")
    assert f"hardware.project_name: {name!r} is a word of C++ or hls4ml; choose another name" in message


@pytest.mark.parametrize("part", ["xcu250;rm -rf /", "a b", "[exec ls]", "x'y", 'x"y', "../x", ""])
def test_an_fpga_part_is_letters_digits_underscore_and_minus(cli: Cli, part: str) -> None:
    quoted = "'" + part.replace("'", "''") + "'"
    message = cli.refuses("run", "--set", f"hardware.part={quoted}")
    assert "hardware.part: string should match pattern '^[A-Za-z0-9_-]+$'" in message
    assert "(FPGA part)" in message


@pytest.mark.parametrize(
    "text",
    [
        "name: !!python/object/apply:os.system ['touch evil']\n",
        "!!python/object/new:subprocess.Popen [['touch', 'evil']]\n",
        "data: !!python/object:pathlib.Path {}\n",
        "model: {file: !!python/name:os.system }\n",
    ],
)
def test_yaml_that_constructs_objects_is_refused_and_not_run(cli: Cli, text: str) -> None:
    (cli.folder / "evil.yaml").write_text(text)
    message = cli.refuses("run", "evil.yaml")
    assert "evil.yaml: not plain YAML: could not determine a constructor for the tag" in message
    assert "!!python" in message or "python/" in message
    assert not (cli.folder / "evil").exists()


def test_yaml_objects_in_a_setting_are_refused(cli: Cli) -> None:
    message = cli.refuses("run", "--set", "name=!!python/object/apply:os.system ['touch evil']")
    assert "not a plain YAML value" in message
    assert not (cli.folder / "evil").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed\n", "bad.yaml: not plain YAML: while parsing a flow sequence"),
        ("- a\n- b\n", f"bad.yaml: must be a mapping of sections ({SECTIONS})"),
        ("", f"bad.yaml: must be a mapping of sections ({SECTIONS})"),
        ("name: 2024-99-99\n", "bad.yaml: not plain YAML: month must be in 1..12"),
        ("name: " + "[" * 3000, "bad.yaml: not plain YAML"),
        ("a: 1\nb: 2\n", "bad.yaml: a: unknown key"),
    ],
)
def test_a_file_that_is_no_experiment(cli: Cli, text: str, message: str) -> None:
    (cli.folder / "bad.yaml").write_text(text)
    assert message in cli.refuses("run", "bad.yaml")


def test_all_problems_of_a_file_are_told_at_once(cli: Cli) -> None:
    (cli.folder / "bad.yaml").write_text("seed: x\nmapping: {mu: -1}\nhardwere: {}\n")
    message = cli.refuses("run", "bad.yaml")
    assert all(f"bad.yaml: {key}: " in message for key in ("seed", "mapping.mu", "hardwere"))


def test_a_config_that_is_not_there(cli: Cli) -> None:
    assert cli.refuses("run", "missing.yaml") == "robust-hls: missing.yaml: no such file\n"


def test_a_config_that_is_not_text(cli: Cli) -> None:
    (cli.folder / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "binary.yaml: not a readable text file" in cli.refuses("run", "binary.yaml")


def test_a_folder_without_a_run(cli: Cli) -> None:
    (cli.folder / "empty").mkdir()
    assert "empty: no run in this folder (config.yaml is missing)" in cli.refuses("run", "empty")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("foo", "--set 'foo': must look like section.key=value"),
        ("=3", "--set '=3': must look like section.key=value"),
        ("seed.x=3", "--set 'seed.x': 'seed' is a value, not a section"),
        ("seed=[", "--set 'seed=[': not a plain YAML value"),
    ],
)
def test_a_setting_that_sets_nothing(cli: Cli, setting: str, message: str) -> None:
    assert message in cli.refuses("run", "--set", setting)


def test_a_run_is_not_overwritten_without_resume(cli: Cli, tmp_path: Path) -> None:
    RunFolder(tmp_path / "mine").claim()
    (tmp_path / "mine" / "config.yaml").write_text("name: mine\n")
    message = cli.refuses("run", "--out", "mine")
    assert message == "robust-hls: mine: already contains a run; add --resume to continue it, or choose another --out\n"


def test_another_runs_config_does_not_overwrite_a_run_either(cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        RunFolder(tmp_path / name).claim()
        (tmp_path / name / "config.yaml").write_text(f"name: {name}\n")
    assert "two: already contains a run" in cli.refuses("run", "one", "--out", "two")


@pytest.mark.parametrize("arguments", [["--nope"], ["run", "--nope"], ["fly"], ["report"]])
def test_wrong_usage_ends_with_status_2(cli: Cli, arguments: list[str]) -> None:
    assert cli(*arguments).status == 2
    assert not list(cli.folder.iterdir())


# YAML that is more than a config can need


def bomb(levels: int) -> str:
    """Nine values that are nine times the values of the line before, and so on."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb(12), "not plain YAML: line 6: more than 100,000 values, aliases written out"),
        ("a: &a [1, *a]", "not plain YAML: line 1: contains itself"),
        ("a: &a {b: *a}", "not plain YAML: line 1: contains itself"),
        ("a: " + "[" * 60 + "]" * 60, "not plain YAML: line 1: nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "not plain YAML: nested too deeply"),
        (
            "seed: 1" + "0" * 30,
            "not plain YAML: line 1: '1000000000000000000000000000000' is too large a number (64 bits",
        ),
        ("seed: 1" + "0" * 6000, "is too large a number (64 bits at most)"),
        ("seed: 0x" + "f" * 5000, "is too large a number (64 bits at most)"),
        ("seed: 1\nname: x\nseed: 2\n", "not plain YAML: 'seed' is given twice, in lines 1 and 3; keep one"),
        (
            "training:\n  epochs: 3\n  epochs: 3\n",
            "not plain YAML: 'epochs' is given twice, in lines 2 and 3; keep one",
        ),
        ("# " + "x" * (1 << 20), "characters; a config has at most 1,048,576"),
    ],
)
def test_yaml_that_is_more_than_a_config_can_need(cli: Cli, text: str, told: str) -> None:
    (cli.folder / "big.yaml").write_text(text)
    message = cli.refuses("run", "big.yaml")
    assert "big.yaml: " in message
    assert told in message
    assert len(message) < 500


def test_the_same_in_what_was_set(cli: Cli) -> None:
    assert "is too large a number" in cli.refuses("run", "--set", "seed=1" + "0" * 5000)
    assert "not a plain YAML value (line 1: contains itself)" in cli.refuses("run", "--set", "data=&a [*a]")
    assert "'epochs' is given twice" in cli.refuses("run", "--set", "training={epochs: 1, epochs: 2}")


def test_anchors_and_merge_keys_are_still_good(cli: Cli) -> None:
    text = "data: &own {name: digits, limit_train: 300}\nmapping: {mu: 7}\ntraining: &t {epochs: 2}\n"
    (cli.folder / "fine.yaml").write_text(
        text + "evaluation: {attacks: [{<<: {epsilons_lsb: [1]}, attack: {kind: fgsm}}]}\n"
    )
    told = cli.refuses("run", "fine.yaml", "--set", "data.limit_train=-1")
    assert [line.split(": ")[:2] for line in told.splitlines()] == [["robust-hls", "--set"]], told


@pytest.mark.parametrize("key", ["a..b", ".a", "a.", ".", " . ", "training..epochs"])
def test_a_key_with_an_empty_part(cli: Cli, key: str) -> None:
    assert f"--set {key.strip()!r}: has an empty part" in cli.refuses("run", "--set", f"{key}=1")


def test_errors_name_where_the_value_was_written(cli: Cli) -> None:
    (cli.folder / "x.yaml").write_text("seed: -1\n")
    told = cli.refuses("run", "x.yaml", "--set", "training.epochs=-2").removeprefix("robust-hls: ").splitlines()
    assert [line.split(": ")[:2] for line in told] == [["x.yaml", "seed"], ["--set", "training.epochs"]]
    assert cli.refuses("run", "--set", "seed=.nan").startswith("robust-hls: --set: seed: ")
    assert cli.refuses("run", "--set", "traning.epochs=1").startswith(
        "robust-hls: --set: traning: unknown key; did you"
    )
