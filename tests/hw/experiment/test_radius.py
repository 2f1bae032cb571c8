"""ε in grid steps, in the data's unit or in standard deviations; and what of it cannot be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.cli import Cli

from hw.experiment.evaluation_config import AttackPlan
from hw.experiment.radius import plan_radii
from hw.sizing.config import SizingConfig, in_steps
from qmodels.data import Dataset, InputConfig, load_data
from qmodels.errors import UserError
from qmodels.training.config import AdversarialConfig


def wine(**config: Any) -> Dataset:
    return load_data("wine", inputs=InputConfig(**config))


def plan(kind: str, unit: str, *values: float) -> AttackPlan:
    return AttackPlan.model_validate({"attack": {"kind": kind}, "epsilon": {"unit": unit, "values": values}})


def test_sigma_is_one_number_of_steps_where_features_are_standardized() -> None:
    small, large = plan_radii(plan("pgd-linf", "sigma", 0.26, 1), wine(scale="standard", format="fixed<10,5>"))
    assert (small.steps, small.median, str(small)) == (8, 8, "0.26σ (8 LSB)")
    assert (large.steps, large.epsilon, large.unit) == (32, 1, "sigma")


def test_the_datas_own_unit_is_another_number_for_every_feature() -> None:
    data = wine(scale="standard", format="fixed<16,5>")
    (radius,) = plan_radii(plan("pgd-linf", "value", 0.5), data)
    assert np.shape(radius.steps) == (13,)
    np.testing.assert_allclose(radius.steps * data.inputs.divisor / 2**11, 0.5, atol=data.inputs.divisor.max() / 2**12)
    assert radius.median == np.median(radius.steps)
    assert radius.as_json() == {"epsilon": 0.5, "epsilon_unit": "value"}


def test_a_radius_in_steps_is_told_as_ever() -> None:
    told = AttackPlan.model_validate({"attack": {"kind": "fgsm"}, "epsilons_lsb": [8]})
    (radius,) = plan_radii(told, load_data("digits"))
    assert (radius.steps, radius.unit, str(radius), radius.as_json(), radius.key) == (8.0, "lsb", "8 LSB", {}, 8.0)


def test_radii_that_attacks_cannot_keep_to() -> None:
    data = wine(format="fixed<16,12>")
    with pytest.raises(UserError, match=r"another number of grid steps for every feature, which only L-infinity"):
        plan_radii(plan("pgd-l2", "sigma", 0.5), data)
    with pytest.raises(UserError, match=r"pgd-linf: epsilon 0.001 value: is less than half a grid step \(0.0625\)"):
        plan_radii(plan("pgd-linf", "value", 0.001), data)
    assert plan_radii(plan("pgd-l2", "value", 0.3), data)[0].steps == pytest.approx(4.8)


def test_the_format_of_the_data_is_the_most() -> None:
    told = AttackPlan.model_validate({"attack": {"kind": "fgsm"}, "epsilons_lsb": [256]})
    with pytest.raises(UserError, match=r"fgsm: epsilon 256 lsb: inputs of 'digits' move by 255 grid steps at most"):
        plan_radii(told, load_data("digits"))
    assert plan_radii(told, wine(format="fixed<16,12>"))[0].steps == 256


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("{attack: {kind: fgsm}}", "give the radii once, in epsilons_lsb or in epsilon: {unit, values}"),
        ("{attack: {kind: fgsm}, epsilons_lsb: [1], epsilon: {unit: lsb, values: [1]}}", "give the radii once"),
        ("{attack: {kind: fgsm}, epsilon: {unit: sgima, values: [1]}}", "did you mean 'sigma'? (allowed: lsb, value"),
        ("{attack: {kind: fgsm}, epsilon: {unit: sigma, values: []}}", "epsilon.values"),
        ("{attack: {kind: fgsm}, epsilon: {unit: sigma, values: [-1]}}", "cannot use -1, allowed: numbers above 0"),
        ("{attack: {kind: fgsm}, epsilon: {unit: sigma, values: [.inf]}}", "cannot use inf"),
        ("{attack: {kind: fgsm}, epsilon: {unit: lsb, values: [0.5]}}", "whole numbers 1 .. 16777215 LSB"),
        ("{attack: {kind: fmn-l0}, epsilon: {unit: sigma, values: [1]}}", "counts features; give epsilons_lsb"),
        ("{attack: {kind: fgsm}, epsilon: {unit: value, values: [0.0001]}}", "is less than half a grid step"),
    ],
)
def test_radii_that_are_none(cli: Cli, attack: str, message: str) -> None:
    assert message in cli.refuses("run", "--set", f"evaluation.attacks=[{attack}]")


def test_training_counts_in_the_users_units_beyond_255_steps() -> None:
    data = wine(scale="standard", format="fixed<16,5>")
    asked = AdversarialConfig.model_validate({"epsilon": {"unit": "sigma", "value": 0.25}})
    assert asked.in_steps(data.inputs, data.input_shape).epsilon_lsb == 512
    assert AdversarialConfig(epsilon_lsb=4000).in_steps(data.inputs, data.input_shape).epsilon_lsb == 4000
    with pytest.raises(UserError, match=r"training.adversarial.epsilon: 0.5 value is another number of grid steps for"):
        AdversarialConfig.model_validate({"epsilon": {"unit": "value", "value": 0.5}}).in_steps(data.inputs, (13,))
    with pytest.raises(UserError, match=r"epsilon: 0.0001 sigma is less than half a grid step; raise it"):
        AdversarialConfig.model_validate({"epsilon": {"unit": "sigma", "value": 1e-4}}).in_steps(data.inputs, (13,))
    with pytest.raises(ValueError, match="give the radius once"):
        AdversarialConfig.model_validate({"epsilon": {"unit": "sigma", "value": 1}, "epsilon_lsb": 8})


def test_sizing_counts_in_the_users_units_beyond_255_steps() -> None:
    data = wine(scale="standard", format="fixed<16,5>")
    asked = {"space": {"quantization.weight_bits": [2, 3]}, "worst_case": {"epsilon": {"unit": "sigma", "value": 0.25}}}
    config = in_steps(SizingConfig.model_validate(asked), data)
    assert (config.worst_case.epsilon_lsb, config.worst_case.epsilon) == (512, None)
    wide = SizingConfig.model_validate(asked | {"worst_case": {"epsilon_lsb": 70_000}})
    with pytest.raises(UserError, match=r"70000 grid steps; inputs of 'wine' move by 65535 at most"):
        in_steps(wide, data)


def test_a_training_radius_beyond_the_format(cli: Cli) -> None:
    told = ("training.method=adversarial", "training.adversarial.epsilon_lsb=300")
    said = cli.refuses("run", *(part for one in told for part in ("--set", one)))
    assert "training.adversarial.epsilon_lsb: 300 grid steps; inputs of 'digits' move by 255 at most" in said
