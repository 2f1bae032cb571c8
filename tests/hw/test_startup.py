"""Starting is quick: nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import Cli

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "tf_keras", "keras", "qkeras", "hls4ml", "sklearn", "matplotlib", "scipy")
REPORT = f"import sys; print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['robust-hls', '--help']\ntry:\n    import hw.cli; hw.cli.main()\n"
    code += f"finally:\n    {REPORT}"
    out = python(code)
    assert out.splitlines()[-1] == "loaded:"
    for command in ("run", "train", "generate", "simulate", "attack", "evaluate", "report", "synth", "doctor"):
        assert f" {command} " in out


@pytest.mark.parametrize(
    "modules",
    [
        "hw, qmodels",
        "hw.simulate.csim, hw.generate.writing, hw.accelerator, hw.simulate.exactness, hw.tools.cache",
        "hw.experiment.config, hw.experiment.open, hw.report.step, qmodels.data",
    ],
)
def test_importing_the_packages_loads_no_tensorflow(modules: str) -> None:
    assert python(f"import {modules}\n{REPORT}").splitlines()[-1] in ("loaded:", "loaded: scipy")


@pytest.mark.parametrize("closed", ["exec >&- 2>&-", "exec <&- >&- 2>&-", "exec <&-"])
def test_closed_streams_are_opened(tmp_path: Path, closed: str) -> None:
    """Or the next file that is opened would get what is printed."""
    code = "import os; from hw.start import _open_streams; _open_streams(); print('x'); os.write(2, b''); "
    code += "handle = os.open('own', os.O_CREAT | os.O_WRONLY); assert handle > 2, handle"
    words = ["/bin/sh", "-c", f'{closed}; exec "$0" -c "$1"', sys.executable, code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(words, cwd=tmp_path, env=environment, timeout=120, check=False).returncode == 0


def test_the_keras_settings_of_a_user_change_nothing(tmp_path: Path) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"floatx": "float16", "image_data_format": "channels_first"}')
    code = "from qmodels.runtime import runtime; keras = runtime().keras.backend; "
    code += "import os; print(keras.floatx(), keras.image_data_format(), os.environ.get('KERAS_HOME'))"
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("KERAS_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "float32 channels_last None\n"
    assert [path.name for path in (tmp_path / ".keras").iterdir()] == ["keras.json"]


@pytest.mark.parametrize("name", ["c\x1b]0;title\x07.yaml", "c\x1b[2J.yaml", "c\r.yaml", "c\u202e.yaml"])
def test_names_do_not_steer_the_terminal(cli: Cli, name: str) -> None:
    message = cli.refuses("run", name)
    assert ascii(name)[1:-1] in message and name[1] not in message


@pytest.mark.parametrize("package", ["hw", "hw.rtl", "hw.sizing", "qmodels"])
def test_public_names_are_found_when_asked_for_and_not_before(package: str) -> None:
    """The table, `__all__` and the imports that type checkers see name the same things."""
    code = (
        f"import {package}, sys\n"
        "print(*[name for name in ('numpy', 'pydantic', 'yaml', 'tensorflow', 'hls4ml') if name in sys.modules])\n"
        f"print(*[name for name in {package}.__all__ if getattr({package}, name) is not None])\n"
        f"print(*{package}.__all__)\n"
        "print(*[name for name in ('tensorflow', 'hls4ml') if name in sys.modules])"
    )
    at_import, found, public, later = python(code).split("\n")[:4]
    assert (at_import, found, later) == ("", public, "")
    source = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
    (seen,) = [node for node in source.body if isinstance(node, ast.If)]
    imported = [alias.name for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(public.split())
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Acelerator'"):
        getattr(importlib.import_module(package), "Acelerator")  # noqa: B009 - as a user's typing error


def test_a_wrong_config_is_told_without_loading_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['robust-hls', 'run', '--set', 'sed=1']\n"
        f"try:\n    import hw.cli; hw.cli.main()\nexcept SystemExit as end:\n    {REPORT}; print(end.code)"
    )
    assert python(code).splitlines()[-2:] in (["loaded:", "2"], ["loaded: scipy", "2"])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "--set", "sed=1"], 2, "sed: unknown key; did you mean 'seed'?"),
        (["doctor"], 0, ""),
        (["run", "none.yaml"], 2, "robust-hls: none.yaml: no such file"),
    ],
)
def test_the_installed_command_ends_with_its_status(
    tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    command = Path(sys.executable).with_name("robust-hls")
    if not command.exists():
        pytest.skip("the package is not installed beside this Python")
    done = subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
