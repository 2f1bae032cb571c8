"""Fixtures that several test files share: a machine without our variables, the command in-process, tiny models."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import Cli
from helpers.kept import kept_folder, prune
from helpers.models import Toolbox
from hypothesis import settings

# No deadline: the machine is shared and the first example loads TensorFlow. Derandomized: same tests for everyone.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("suite")

# TensorFlow's graphs are very many objects that stay: looking for garbage among them so often took a tenth of the
# attack table's time.
gc.set_threshold(100_000, 20, 50)

#: By the seconds they take, so that no worker is left alone with one of them at the end. `--durations` tells.
#: The second does without bitsim's kernels: the first has them built meanwhile. Workers that want them at once would
#: all build them.
LONGEST_FIRST = (
    "hw/experiment/test_flow.py",
    "qmodels/attacks/test_criteria_table.py",
    "qmodels/attacks/test_table.py",
    "hw/experiment/test_tasks.py",
    "hw/simulate/bitsim/test_random_networks.py",
    "qmodels/training/test_session.py",
    "hw/simulate/gradients/test_integer_gradients.py",
    "hw/generate/contract/test_contract_repairs.py",
    "hw/simulate/test_csim.py",
    "hw/generate/contract/test_contract_reported.py",
    "hw/test_accelerator.py",
    "hw/test_front_ends.py",
    "qmodels/training/test_certified.py",
    "hw/rtl/test_rtl_command.py",
    "hw/generate/test_models.py",
    "qmodels/attacks/test_ball.py",
    "hw/sizing/test_size.py",
    "hw/generate/test_weight_codes.py",
    "hw/experiment/test_tflite.py",
    "hw/sizing/test_crews.py",
    "hw/generate/test_codes.py",
    "hw/test_startup.py",
    "qmodels/loading/test_keras3.py",
    "hw/synth/test_synth.py",
    "qmodels/loading/test_quantizers.py",
    "hw/tables/test_tables.py",
    "qmodels/attacks/test_base.py",
    "qmodels/training/test_defences.py",
    "qmodels/tflite/test_tflite_victim.py",
    "qmodels/attacks/test_worst_case.py",
    "qmodels/attacks/test_masking_caught.py",
    "hw/sizing/test_conductor.py",
    "hw/test_several_inputs.py",
    "hw/experiment/test_bad_machine.py",
    "hw/rtl/test_verilog.py",
    "hw/test_attacks_on_bitsim.py",
    "hw/experiment/test_defence.py",
)

_GRAPHS_AS_TRACED = pytest.StashKey[bool]()

#: They fork processes from one that has loaded everything (helpers/forked.py), which takes seconds: one worker has it.
FORKING = (
    "tests/hw/experiment/test_flow.py",
    "tests/qmodels/training/test_session.py",
    "tests/qmodels/test_interrupts.py",
)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`: a file's tests share a worker, and so do the files that fork."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "those that fork" if file in FORKING else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others as they are found."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST_FIRST)}
    assert all(path.is_file() for path in places), "LONGEST_FIRST names a file that is not there"
    assert all((Path(__file__).parents[1] / name).is_file() for name in FORKING)
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is kept between runs has a size."""
    folder = None if "PYTEST_XDIST_WORKER" in os.environ else kept_folder(session.config)
    if folder is not None:
        prune(folder.parent)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """TensorFlow runs graphs as they are traced: to optimize them takes longer than to run them, and changes no bit."""
    if "tensorflow" in sys.modules and not item.config.stash.get(_GRAPHS_AS_TRACED, False):
        sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        item.config.stash[_GRAPHS_AS_TRACED] = True


@pytest.fixture(scope="session", autouse=True)
def own_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing of the user's environment decides a test, and nothing is left in the user's cache: tests have their own,
    which is kept between runs."""
    base = tmp_path_factory.getbasetemp()
    of_this_run = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder = kept_folder(pytestconfig) or of_this_run  # one for all workers
    folder.mkdir(exist_ok=True, mode=0o700)
    sanitized = ("ROBUST_HLS_BITSIM_SANITIZE", "ROBUST_HLS_ISA")  # benchmarks/sanitize.py runs tests with both
    kept = sanitized if sanitized[0] in os.environ else ()
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("ROBUST_HLS_") and name not in kept]:
            patch.delenv(variable)
        patch.setenv("ROBUST_HLS_CACHE", str(folder))
        patch.setenv("COLUMNS", "300")  # rich would wrap messages at the width of a terminal that is not there
        yield folder


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`robust-hls` in-process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def toolbox() -> Toolbox:
    """Tiny digits data and models, made once."""
    return Toolbox()
