"""Certificates in a run: brackets in results.json, kept files, the command, and contradictions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hw.certify import Certificate
from hw.experiment import certificates
from hw.experiment.config import RunConfig, load_config
from hw.report.certificates import certificate_rows, certificate_texts
from hw.report.schema import ResultsPart
from qmodels.errors import Contradiction, UserError
from qmodels.grid import IMAGE_GRID
from qmodels.metrics.masking import Row
from qmodels.shapes import check_shape


def certificate(verdicts):
    count = len(verdicts)
    methods = np.array(["intervals"] * count)
    return Certificate(np.array(verdicts), methods, np.zeros((count, 2), np.uint8), 2.0, "linf", np.zeros(count))


def run_of(found, monkeypatch):
    """A run whose certificate is known."""
    images = SimpleNamespace(x=np.zeros((len(found), 2), np.uint8), y=np.zeros(len(found)))
    images.take = lambda count: images
    monkeypatch.setattr(certificates, "concerned_images", lambda run: images)
    monkeypatch.setattr(certificates, "_kept", lambda *a: found)
    monkeypatch.setattr(
        certificates,
        "accelerator_of",
        lambda run: SimpleNamespace(label="Orig.", victim=SimpleNamespace(name="bitsim")),
    )
    config = RunConfig()
    data = SimpleNamespace(grid=IMAGE_GRID)
    return SimpleNamespace(config=config, data=data, task=SimpleNamespace(kind="classes"))


def row(correct, epsilon=2.0, **more):
    correct = np.array(correct)
    return Row(
        "Orig.", "bitsim", "pgd", float(correct.mean()), len(correct), epsilon_lsb=epsilon, correct=correct, **more
    )


def test_the_bracket_is_what_is_proved_and_what_attacks_leave(monkeypatch):
    found = certificate(["certified", "broken", "unknown", "unknown"])
    rows = [row([True, True, False, True]), row([True, False, True, False], epsilon=4.0)]  # the second ball is larger
    _, bracket = certificates.certificate(run_of(found, monkeypatch), RunConfig().evaluation.certificate, 2, rows)
    assert (bracket.accuracy, bracket.worst_case, bracket.unknown) == (0.25, 0.5, 0.5)
    assert "[25.0, 50.0] %" in str(bracket)
    plain = {"run": "digits", "rows": [], "certificates": [bracket.as_json()]}
    check_shape(ResultsPart, plain, "results.json")
    assert certificate_rows(plain)[0]["certified_%"] == 25.0
    assert "at least 25 %" in certificate_texts(SimpleNamespace(plain=plain))[0]


def test_certified_and_broken_is_a_defect_of_ours(monkeypatch):
    found = certificate(["unknown", "certified"])
    with pytest.raises(Contradiction, match=r"image 1 .* by intervals, and pgd with ε = 1 LSB breaks it") as raised:
        certificates.certificate(
            run_of(found, monkeypatch), RunConfig().evaluation.certificate, 2, [row([True, False], epsilon=1.0)]
        )
    assert raised.value.exit_status == 4


def test_other_tasks_are_refused_before_anything_is_computed():
    with pytest.raises(UserError, match="certificates are for classes"):
        certificates.check_certifiable("regression")


@pytest.mark.parametrize("wrong", ["[0]", "[1.5]", "[-1]"])
def test_radii_are_whole_steps(wrong):
    import yaml

    with pytest.raises(UserError, match="epsilons_lsb"):
        load_config(None, {"evaluation.certificate.epsilons_lsb": yaml.safe_load(wrong)})


@pytest.mark.gxx
def test_an_accelerator_certifies_its_images_and_attacks_agree(toolbox):
    from hw.accelerator import Accelerator
    from qmodels.attacks import PGD

    accelerator = Accelerator(toolbox.quantized.model)
    x, y = toolbox.data.test.x[:30], toolbox.data.test.y[:30]
    found = accelerator.certify(x, y, epsilon=1)
    result = next(accelerator.attack(PGD(steps=10), x, y, epsilons=[1]))
    assert found.certified.any()
    assert not (found.certified & result.success).any()
    assert accelerator.certify(x, y, epsilon=3).certified.sum() <= found.certified.sum()
