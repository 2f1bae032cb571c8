"""Transfer: examples from other models, judged by the victim alone."""

from __future__ import annotations

import numpy as np
import pytest
from small_victims import Broken, OutputsOnly, float_model

from qmodels.attacks import parse_attack
from qmodels.attacks.transfer import transfer
from qmodels.data import Dataset, Split
from qmodels.metrics.distance import change_lengths
from qmodels.victims import KerasVictim, Victim


def test_examples_of_other_models_fool_the_victim(data: Dataset, victims: dict[str, Victim], images: Split) -> None:
    sources = [KerasVictim(float_model(data, hidden=24, seed=5), "float"), victims["float"]]
    victim = OutputsOnly(victims["quantized"])
    attack = parse_attack({"kind": "bim", "steps": 10})
    noise = parse_attack({"kind": "uniform", "draws": 3})(victim, *images, epsilon_lsb=48, seed=0)
    one, both = (transfer(attack, part, victim, *images, epsilon_lsb=48, seed=0) for part in (sources[:1], sources))
    assert change_lengths(both.x, images.x)["linf"].max() <= 48
    np.testing.assert_array_equal(both.success, victim.logits(both.x).argmax(axis=1) != images.y)
    assert both.accuracy <= one.accuracy < noise.accuracy
    assert one.queries == len(images.y) and both.queries <= 2 * len(images.y)


def test_nan_is_no_transfer(victims: dict[str, Victim], images: Split) -> None:
    attack, broken = parse_attack({"kind": "fgsm"}), Broken(victims["quantized"])
    result = transfer(attack, [victims["float"]], broken, *images, epsilon_lsb=25, seed=0)  # type: ignore[list-item]
    assert not (result.success & ~np.isfinite(broken.logits(result.x)).all(axis=1)).any()
    with pytest.raises(ValueError, match="at least one source"):
        transfer(attack, [], broken, *images, epsilon_lsb=25, seed=0)
