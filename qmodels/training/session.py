"""A training from start to end: phases, early stopping, checkpoints and resuming.

Phase 0 trains on the given data; each feedback round is a further phase on the data plus its new examples. After
every epoch all that is needed to go on is on disk, so a run killed at any moment ends with the weights of an
undisturbed one, bit for bit, on the same machine. Models that draw random numbers themselves (Dropout) are the
exception: TensorFlow keeps their generators inside its graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from qmodels.data import Split
from qmodels.progress import Bar, progress_bar
from qmodels.runtime import set_seed
from qmodels.training.checkpoint import (
    State,
    load_arrays,
    load_state,
    round_from_json,
    save_arrays,
    save_state,
    training_digest,
)
from qmodels.training.config import TrainingConfig
from qmodels.training.feedback import class_levels, class_margins, generate_examples
from qmodels.training.loop import EpochPlan, Loop
from qmodels.training.margins import BATCH
from qmodels.training.report import ClassMargin, EpochRecord, RoundRecord, TrainingReport
from qmodels.victims import KerasVictim

STATE_FILE = "training.npz"
ROUND_FILE = "round.npz"  # examples of the current feedback round


def train(
    model: Any,
    config: TrainingConfig,
    train: Split,
    validation: Split,
    *,
    seed: int,
    checkpoint_dir: Path,
    static: Sequence[Any] = (),
) -> TrainingReport:
    """Train `model` in place; go on where an interrupted call with the same arguments was stopped.

    Args:
        model: a tf_keras (or QKeras) model with logits as output.
        config: the method and its sizes.
        train: the data trained on.
        validation: the data that decides when to stop and which epoch's weights are kept.
        seed: of everything random; not negative.
        checkpoint_dir: where checkpoints are kept. One of other data, settings or initial weights is ignored.
        static: trained models that stand still, `config.static_models` of them (see `train_static`).

    Returns:
        What happened. The model has the weights of the best epoch of the last phase.

    Raises:
        ValueError: another number of static models than the method needs.
        RobustHlsError: the loss is no longer finite.
    """
    if len(static) != config.static_models:
        raise ValueError(
            f"training.method {config.method} needs {config.static_models} static models, got {len(static)}"
        )
    set_seed(seed)
    session = _Session(model, config, train, validation, seed, checkpoint_dir, static)
    session.run()
    return session.report()


def train_static(
    build: Callable[[int], Any],
    config: TrainingConfig,
    train_split: Split,
    validation: Split,
    *,
    seed: int,
    checkpoint_dir: Path,
) -> list[Any]:
    """The models that must stand still while `config` trains another one; none for most methods.

    Finished ones are read from their checkpoints.

    Args:
        build: seed -> a fresh model.
        config: of the training that needs them.
        train_split: the data trained on.
        validation: as for `train`.
        seed: of that training; the static models have the next ones.
        checkpoint_dir: theirs are in `static_1`, `static_2` below it.
    """
    found = []
    for number in range(1, config.static_models + 1):
        own = (seed + number) % 2**31
        model = build(own)
        train(
            model,
            config.static_phase(),
            train_split,
            validation,
            seed=own,
            checkpoint_dir=checkpoint_dir / f"static_{number}",
        )
        found.append(model)
    return found


class _Session:
    def __init__(
        self,
        model: Any,
        config: TrainingConfig,
        train: Split,
        validation: Split,
        seed: int,
        directory: Path,
        static: Sequence[Any],
    ) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.data, self.validation = train, validation
        self.directory = directory
        self.digest = training_digest(model, config, train, validation, seed, static)
        self.loop = Loop(model, config, train.grid, seed, static)
        self.victim = KerasVictim(model, "float", train.grid, BATCH)
        self.started = perf_counter()
        found = load_state(directory / STATE_FILE, self.digest)
        self.resumed_from = len(found.history) if found else None
        self.state = found or State(model.get_weights(), self.loop.optimizer_state(), [])
        self.earlier_seconds = self.state.seconds
        model.set_weights(self.state.weights)
        self.loop.set_optimizer_state(self.state.optimizer)

    def run(self) -> None:
        """All phases that are not done."""
        if self.state.finished:
            return
        for phase in range(self.state.phase, self.config.rounds + 1):
            new = self._examples_of(phase)
            if phase != self.state.phase:
                self.state.phase, self.state.epoch, self.state.best = phase, 0, []
                self.loop.reset_optimizer()
            self._run_phase(new)
            self.model.set_weights(self.state.best)
        self._close_round(self.config.rounds)
        self.state.finished = True
        self._save()

    def report(self) -> TrainingReport:
        """What happened."""
        state = self.state
        last_phase = [(number, record) for number, record in enumerate(state.history, 1) if record.phase == state.phase]
        best = max(last_phase, key=lambda item: (item[1].score, -item[0]))[0]
        return TrainingReport(
            self.config.method,
            len(state.history),
            best,
            tuple(state.history),
            round(state.seconds, 3),
            self.resumed_from,
            tuple(state.rounds),
        )

    def _run_phase(self, new: Split | None) -> None:
        epochs = self._epochs_of(self.state.phase)
        batch = min(self.config.batch_size, len(self.data.y))
        steps = (len(self.data.y) + self._examples_per_epoch(new)) // batch
        name = f"feedback round {self.state.phase}" if self.state.phase else "training"
        with progress_bar(name, epochs * steps) as bar:
            bar.advance(self.state.epoch * steps)
            while self.state.epoch < epochs and not self._is_stale():
                self._run_epoch(new, epochs, bar)

    def _run_epoch(self, new: Split | None, epochs: int, bar: Bar) -> None:
        plan = self._plan(epochs)
        loss = self.loop.epoch(self._epoch_data(new), plan, bar)
        score = self.loop.evaluate(self.validation)
        record = EpochRecord(plan.phase, plan.epoch + 1, plan.rate(0, 1), plan.epsilon(1, 1), loss, *score)
        earlier = self._phase_records()
        if not earlier or record.score > max(item.score for item in earlier):
            self.state.best = self.model.get_weights()
        self.state.history.append(record)
        self.state.epoch += 1
        self._save()

    def _plan(self, epochs: int) -> EpochPlan:
        config, phase, epoch = self.config, self.state.phase, self.state.epoch
        rate = config.feedback.round_learning_rate if phase else config.learning_rate
        warmup = 0 if phase else config.adversarial.warmup_epochs
        full, cosine = config.adversarial.epsilon_lsb, config.schedule == "cosine"
        if config.certifies:
            return EpochPlan(phase, epoch, epochs, rate, cosine, full, warmup)
        epsilon = full * min(1.0, (epoch + 1) / (warmup + 1)) if config.attacks else 0.0
        return EpochPlan(phase, epoch, epochs, rate, cosine, epsilon)

    def _epochs_of(self, phase: int) -> int:
        return self.config.feedback.epochs_per_round if phase else self.config.epochs

    def _phase_records(self) -> list[EpochRecord]:
        return [record for record in self.state.history if record.phase == self.state.phase]

    def _is_stale(self) -> bool:
        """No better score for `patience` epochs, those of the epsilon warm-up not counted."""
        scores = [record.score for record in self._phase_records()]
        warmup = self.config.adversarial.warmup_epochs if self.config.has_ball and not self.state.phase else 0
        if len(scores) <= self.config.patience + warmup:
            return False
        return max(scores[-self.config.patience :]) <= max(scores[: -self.config.patience])

    def _save(self) -> None:
        self.state.weights = self.model.get_weights()
        self.state.optimizer = self.loop.optimizer_state()
        self.state.seconds = self.earlier_seconds + perf_counter() - self.started
        save_state(self.directory / STATE_FILE, self.digest, self.state)

    def _epoch_data(self, new: Split | None) -> Split:
        """The training data, in a feedback round with some of its new examples."""
        if new is None:
            return self.data
        rng = np.random.default_rng([self.seed, self.state.phase, self.state.epoch, 0xD1CE])
        rows = rng.permutation(len(new.y))[: self._examples_per_epoch(new)]
        x, y = np.concatenate([self.data.x, new.x[rows]]), np.concatenate([self.data.y, new.y[rows]])
        return Split(x, y, self.data.grid)

    def _examples_per_epoch(self, new: Split | None) -> int:
        return min(len(new.y), round(self.config.feedback.examples_per_original * len(self.data.y))) if new else 0

    def _examples_of(self, phase: int) -> Split | None:
        """The new examples of a feedback round."""
        return (self._load_round(phase) or self._make_round(phase)) if phase else None

    def _load_round(self, phase: int) -> Split | None:
        """Examples that an earlier session made for this round."""
        found = load_arrays(self.directory / ROUND_FILE, self.digest)
        if found is None or found[1]["rounds"][-1]["round"] != phase:
            return None
        arrays, meta = found
        self.state.rounds = [round_from_json(record) for record in meta["rounds"]]
        return Split(arrays["k"], arrays["y"], self.data.grid)

    def _make_round(self, phase: int) -> Split:
        """Measure, rank, generate; kept on disk, since the weights it comes from are about to change."""
        before = self._close_round(phase - 1)
        config = self.config.feedback
        levels = class_levels(np.array([item.mean for item in before]), config)
        new, examples = generate_examples(self.victim.logits, self.data, levels, config, seed=self.seed, round_=phase)
        self.state.rounds.append(RoundRecord(phase, levels, examples, before))
        arrays: dict[str, Any] = {"k": new.x, "y": new.y}
        meta = {"rounds": [asdict(record) for record in self.state.rounds]}
        save_arrays(self.directory / ROUND_FILE, self.digest, arrays, meta)
        return new

    def _close_round(self, phase: int) -> tuple[ClassMargin, ...]:
        """Measure the classes as they are now, and note it as the outcome of a round just ended."""
        if not self.config.rounds:
            return ()
        classes = int(self.model.output_shape[-1])
        measured = class_margins(self.victim.logits, self.data, self.config.feedback, classes=classes, seed=self.seed)
        if phase:
            self.state.rounds[-1] = replace(self.state.rounds[-1], after=measured)
        return measured
