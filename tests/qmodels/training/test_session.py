from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from helpers.forked import fork
from tiny_training import METHODS, digits, same_weights, tiny_config, tiny_model

from qmodels.attacks import PGD
from qmodels.errors import RobustHlsError
from qmodels.training import AdversarialConfig, session, train
from qmodels.training.checkpoint import load_state, save_arrays
from qmodels.training.loop import Loop, Score
from qmodels.victims import KerasVictim, accuracy


class Killed(Exception):
    """Stands for kill -9."""


def run(config, folder, seed=0, samples=400):
    model = tiny_model()
    report = train(model, config, digits().train.take(samples), digits().validation, seed=seed, checkpoint_dir=folder)
    return model, report


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A training of each method that nothing stopped, done once; for reading only."""
    return cache(lambda method: run(tiny_config(method), tmp_path_factory.mktemp("undisturbed")))


def kill_at(monkeypatch, owner, name, call):
    """The `call`-th call of a function ends everything before it does anything."""
    real, calls = getattr(owner, name), []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, dies)


def without_times(report):
    values = report.as_json()
    return {key: value for key, value in values.items() if key not in ("seconds", "resumed_from")}


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_resumes_and_ends_bit_identical(method, tmp_path, monkeypatch, undisturbed):
    config = tiny_config(method)
    model, expected = undisturbed(method)
    with monkeypatch.context() as patch:
        kill_at(patch, Loop, "evaluate", 3)  # in the third epoch, its steps already done
        with pytest.raises(Killed):
            run(config, tmp_path / "killed")
    resumed, report = run(config, tmp_path / "killed")
    assert (expected.resumed_from, report.resumed_from) == (None, 2)
    assert same_weights(model, resumed)
    assert without_times(report) == without_times(expected)


@pytest.mark.parametrize(
    ("owner", "name", "call", "epochs_kept"),
    [
        (session, "generate_examples", 1, 3),  # between training and the first round
        (Loop, "epoch", 4, 3),  # in the first round, whose examples are on disk
        (session, "generate_examples", 2, 5),
        (Loop, "evaluate", 7, 6),  # in the last epoch of all
        (session, "class_margins", 3, 7),  # while the last margins are measured
        (session, "save_state", 8, 7),
    ],
)
def test_feedback_learning_resumes_wherever_it_is_killed(
    owner, name, call, epochs_kept, tmp_path, monkeypatch, undisturbed
):
    config = tiny_config("feedback")
    model, expected = undisturbed("feedback")
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            run(config, tmp_path / "killed")
    resumed, report = run(config, tmp_path / "killed")
    assert report.resumed_from == epochs_kept
    assert same_weights(model, resumed)
    assert without_times(report) == without_times(expected)


def train_long(folder):
    """What is killed."""
    train(tiny_model(), tiny_config(epochs=40, patience=40), digits().train, digits().validation, seed=0,
          checkpoint_dir=folder)  # fmt: skip


def test_a_process_killed_with_sigkill_resumes_bit_identical(tmp_path):
    folder = tmp_path / "killed"
    child = fork(train_long, folder)
    state_file, deadline = folder / session.STATE_FILE, time.monotonic() + 120
    while not state_file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    config = tiny_config(epochs=40, patience=40)
    undisturbed, expected = run(config, tmp_path / "undisturbed", samples=None)
    resumed, report = run(config, folder, samples=None)
    assert report.resumed_from is not None and 0 < report.resumed_from < 40
    assert same_weights(undisturbed, resumed)
    assert without_times(report) == without_times(expected)


def test_a_finished_training_is_not_run_again(tmp_path, monkeypatch):
    model, report = run(tiny_config("feedback"), tmp_path)
    kill_at(monkeypatch, Loop, "epoch", 1)
    again, repeated = run(tiny_config("feedback"), tmp_path)
    assert same_weights(model, again)
    assert (repeated.resumed_from, repeated.seconds) == (report.epochs, report.seconds)


def test_checkpoints_of_another_seed_or_config_or_of_garbage_are_ignored(tmp_path, undisturbed):
    reference, _ = undisturbed("standard")
    run(tiny_config(), tmp_path / "shared", seed=1)
    assert run(tiny_config(learning_rate=0.01), tmp_path / "shared")[1].resumed_from is None
    model, report = run(tiny_config(), tmp_path / "shared")
    assert report.resumed_from is None and same_weights(model, reference)
    state_file = tmp_path / "shared" / session.STATE_FILE
    state_file.write_bytes(state_file.read_bytes()[:-100])
    model, report = run(tiny_config(), tmp_path / "shared")
    assert report.resumed_from is None and same_weights(model, reference)


def test_the_seed_decides(tmp_path):
    one, _ = run(tiny_config(), tmp_path / "one", seed=1)
    two, _ = run(tiny_config(), tmp_path / "two", seed=2)
    assert not same_weights(one, two)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    save_arrays(path, "digest", {"a": np.arange(3)}, {})
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_arrays(path, "digest", {"a": np.arange(4)}, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_stops_after_patience_epochs_and_restores_the_best_weights(tmp_path, monkeypatch):
    accuracies = [0.5, 0.7, 0.6, 0.7, 0.7, 0.9]  # equal accuracy and loss is not better
    seen = []

    def scripted(self, data):
        seen.append(self.model.get_weights())
        return Score(1.0, accuracies[len(seen) - 1], None)

    monkeypatch.setattr(Loop, "evaluate", scripted)
    model, report = run(tiny_config(epochs=6, patience=3), tmp_path)
    assert (report.epochs, report.best_epoch) == (5, 2)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), seen[1], strict=True))


def test_patience_counts_from_the_end_of_the_epsilon_warm_up(tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "evaluate", lambda self, data: Score(1.0, 0.5, 0.5))
    attack = AdversarialConfig(epsilon_lsb=12, steps=1, warmup_epochs=2)
    report = run(tiny_config("adversarial", epochs=9, patience=2, adversarial=attack), tmp_path)[1]
    assert [record.epsilon_lsb for record in report.history] == [4, 8, 12, 12, 12]


def test_the_cosine_falls_to_zero_and_starts_anew_in_each_round(tmp_path):
    config = tiny_config("feedback", learning_rate=0.004)
    rates = [record.learning_rate for record in run(config, tmp_path)[1].history]
    np.testing.assert_allclose(rates, [0.004, 0.003, 0.001, 0.001, 0.0005, 0.001, 0.0005])
    constant = run(tiny_config(schedule="constant", learning_rate=0.004), tmp_path)[1].history
    assert {record.learning_rate for record in constant} == {0.004}


def test_a_diverging_training_says_so(tmp_path):
    with pytest.raises(RobustHlsError, match=r"not finite in epoch 1; lower .*learning_rate"):
        run(tiny_config(learning_rate=1e30), tmp_path)


def test_standard_training_learns_digits_and_adversarial_training_makes_them_robust(tmp_path):
    data, pgd = digits(), PGD(steps=10)
    standard, _ = run(tiny_config(epochs=15, learning_rate=0.01), tmp_path / "standard", samples=None)
    attack = AdversarialConfig(epsilon_lsb=16, steps=3, warmup_epochs=2)
    config = tiny_config("adversarial", epochs=15, learning_rate=0.01, adversarial=attack)
    robust, report = run(config, tmp_path / "adversarial", samples=None)
    plain, hardened = KerasVictim(standard, "float"), KerasVictim(robust, "float")
    assert accuracy(plain, *data.test) > 0.93
    weak, strong = (pgd(victim, *data.test, epsilon_lsb=16, seed=0).accuracy for victim in (plain, hardened))
    assert strong > weak + 0.05
    best = report.history[report.best_epoch - 1].validation_pgd_accuracy
    assert best == max(record.validation_pgd_accuracy for record in report.history)


def test_the_report_is_json_and_tells_the_rounds(undisturbed):
    _, report = undisturbed("feedback")
    assert json.loads(json.dumps(report.as_json()))["method"] == "feedback"
    assert [record.round for record in report.rounds] == [1, 2]
    assert [record.phase for record in report.history] == [0, 0, 0, 1, 1, 2, 2]
    first, second = report.rounds
    assert first.after == second.before != first.before
    for record in report.rounds:
        assert (record.levels.count("high"), record.levels.count("medium"), record.levels.count("low")) == (2, 3, 5)
        assert 0 < record.generated == sum(record.examples) <= (2 * 2 + 3 * 4 + 5 * 6) * 40
        assert [item.label for item in record.after] == list(range(10))


def test_the_state_on_disk_is_found_by_its_digest_only(tmp_path):
    run(tiny_config(), tmp_path)
    assert load_state(tmp_path / session.STATE_FILE, "another digest") is None


def test_import_does_not_load_tensorflow():
    code = "import sys, qmodels.training; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
