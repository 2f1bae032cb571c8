"""The ascent of an L-infinity ball by an engine: arrays that are changed where they lie, and no graph but of the loss.

The moves are those of gradient.py's loop. In TensorFlow they take longer than an engine's gradients of a small network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmodels.attacks.ascent import Ascent, Room, Seen
from qmodels.criteria import Criterion, Truth
from qmodels.losses import Loss, all_finite
from qmodels.runtime import runtime
from qmodels.tracing import Traced
from qmodels.victims import Engine

Floats = NDArray[np.float32]
Look = tuple[Floats, Floats, NDArray[np.bool_]]  # gradient (N, features), score (N,), whether all is finite


def engine_ascent(engine: Engine, loss: Loss, criterion: Criterion) -> Ascent:
    """BIM, PGD and MIM; its state: where it is, the gradient there, the momentum."""
    tf = runtime().tf

    def judged(outputs: Any, y: Any, target: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            losses = loss(outputs, y, target)
        upstream = tape.gradient(losses, outputs)
        return upstream, criterion.score(outputs, y), all_finite(outputs) & all_finite(upstream)

    def scored(outputs: Any, y: Any) -> Any:
        return criterion.score(outputs, y)

    judge, score_of = Traced(judged), Traced(scored)

    def look(points: Floats, y: Truth, target: Truth) -> Look:
        outputs, ticket = engine.forward(points)
        upstream, score, finite = (part.numpy() for part in judge(outputs, y, target))
        gradient = engine.backward(upstream, ticket)
        gradient[~finite] = 0.0
        return gradient, score, finite

    def begin(room: Room, start: Floats, y: Truth, target: Truth, *settings: Floats) -> tuple[Any, ...]:
        iterate = np.clip(start, room.low, room.high)
        best = np.rint(iterate)
        gradient, score, finite = look(best, y, target)
        return Seen(best, score, ~gradient.any(axis=1), finite), (iterate, gradient, np.zeros_like(gradient))

    def advance(
        room: Room, y: Truth, target: Truth, state: Any, first: Any, last: Any, moves: Any, *settings: Floats
    ) -> tuple[Any, ...]:
        (best, best_score, zero, finite), (iterate, gradient, momentum) = state
        _, step, decay = settings
        length, box = np.ravel(room.weight * step), (room.low, room.high)
        for number in range(int(first), int(last)):
            if decay > 0:
                momentum = decay * momentum + gradient / (np.abs(gradient).mean(axis=1, keepdims=True) + 1e-30)
            points = engine.move(iterate, momentum if decay > 0 else gradient, length, box)
            if number < moves:
                gradient, score, fine = look(points, y, target)
                finite = finite & fine
            else:  # nobody needs the gradient of the last point
                score = score_of(engine.outputs(points), y).numpy()
            better = score > best_score
            best[better], best_score = points[better], np.maximum(score, best_score)
        return Seen(best, best_score, zero, finite), (iterate, gradient, momentum)

    return Ascent(begin, advance, arrays=True)
