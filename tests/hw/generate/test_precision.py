"""Types set by hand: wider ones change no bit, what would change weights is refused, what may change sums is told."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.models import grid_codes, qkeras_model, weight_quantizers
from pydantic import ValidationError

from hw.accelerator import Accelerator
from hw.generate.hardware import HardwareConfig
from hw.simulate.exactness import require_exact
from qmodels.errors import ExactnessError, UserError
from qmodels.runtime import runtime
from qmodels.victims import KerasVictim

WIDE = {"accum": "fixed<30,14>", "weight": "fixed<9,3>", "bias": "fixed<16,4>"}


def hardware(**layers: Any) -> HardwareConfig:
    return HardwareConfig.model_validate({"layers": {name: {"precision": own} for name, own in layers.items()}})


def relu() -> Any:
    return runtime().qkeras.QActivation("quantized_relu(5,1)", name="relu")


@pytest.mark.gxx
def test_wider_types_reach_the_cpp_and_change_no_bit() -> None:
    net = qkeras_model(runtime().qkeras.QDense(4, name="hidden", **weight_quantizers()), relu())
    config = HardwareConfig.model_validate(
        {"io_type": "io_stream", "precision": WIDE, "layers": {"hidden": {"precision": {"result": "fixed<32,14>"}}}}
    )
    accelerator = Accelerator(net, config)
    assert accelerator.warnings == ()
    defines = accelerator.project.files["firmware/defines.h"].decode()
    assert defines.count("ap_fixed<30,14>") == 2 and defines.count("ap_fixed<32,14>") == 1
    assert defines.count("ap_fixed<9,3>") == defines.count("ap_fixed<16,4>") == 2
    csim, images = accelerator.compile(optimize=False), grid_codes(50, (4, 4, 1))
    require_exact(KerasVictim(net, "quantized"), csim, images)
    require_exact(csim, accelerator, images)


@pytest.mark.gxx
def test_a_narrow_accumulator_is_told_and_simulated_as_it_will_be() -> None:
    net = qkeras_model()
    accelerator = Accelerator(net, hardware(logits={"accum": "fixed<8,2>"}))
    (told,) = accelerator.warnings
    assert (told.layer, told.setting) == ("logits", "precision.accum")
    assert "cannot represent every value" in str(told) and "fixed<8,2,TRN,WRAP>" in str(told)
    csim, images = accelerator.compile(optimize=False), grid_codes(50, (4, 4, 1))
    require_exact(csim, accelerator, images)
    with pytest.raises(ExactnessError):
        require_exact(KerasVictim(net, "quantized"), csim, images)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            {"logits": {"weight": "fixed<2,1>"}},
            r"layers.logits.precision.weight: some values are not representable in fixed<2,1.* weight .* needs fixed<",
        ),
        ({"relu": {"result": "ufixed<8,4>"}}, r"layers.relu.precision.result: .* change the quantizer in the model"),
        ({"relu": {"accum": "fixed<8,4>"}}, r"layers.relu.precision.accum: .* has no accum type"),
        ({"flatten": {"weight": "fixed<8,4>"}}, r"layers.flatten.precision.weight: .* has no weight"),
    ],
)
def test_what_would_change_the_model_is_refused(own: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Accelerator(qkeras_model(relu()), hardware(**own))


@pytest.mark.parametrize("text", ["float", "fixed<16>", "fixed<0,1>", "ap_int<4>", 16, "fixed<8,4,RND_UP>"])
def test_only_fixed_point_types_are_taken(text: object) -> None:
    with pytest.raises(ValidationError, match="fixed"):
        hardware(logits={"accum": text})


@pytest.mark.parametrize("text", ["fixed<2000,1000>", "fixed<3000,3>", "fixed<65,3>", "fixed<16,99>", "fixed<16,-99>"])
def test_sizes_beyond_the_simulators_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a type of 1 to 64 bits, of them -64 to 64 integer bits"):
        hardware(logits={"accum": text})
    assert hardware(logits={"accum": "fixed<64,64>"}).layers["logits"].precision.accum == "fixed<64,64,TRN,WRAP>"
