"""Graphs of hls4ml's other front ends: simulated bit for bit, and attacked through their outputs alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.qonnx_models import write_convolution

from hw import Accelerator, HardwareConfig
from hw.generate.contract import contract
from hw.generate.convert import legacy_keras, quiet
from hw.generate.onnx import convert_onnx
from qmodels.attacks import PGD, Square
from qmodels.errors import UserError
from qmodels.formats import FixedPoint
from qmodels.grid import IMAGE_GRID, InputGrid
from qmodels.runtime import runtime
from qmodels.victims import GradientVictim, Victim, predictions

pytestmark = pytest.mark.gxx
FEATURES = InputGrid(FixedPoint(12, 4, signed=True))


def check_attackable(accelerator: Accelerator, x: Any) -> None:
    """csim gives bitsim's bits, outputs can be attacked, gradients are refused with what to do."""
    csim = accelerator.compile(optimize=False)
    np.testing.assert_array_equal(csim.logits(x), accelerator.logits(x))
    y = predictions(accelerator, x)
    assert len(set(y.tolist())) > 1  # else nothing could be fooled
    assert isinstance(accelerator, Victim) and not isinstance(accelerator, GradientVictim)
    result = Square(queries=60)(accelerator, x, y, epsilon_lsb=accelerator.grid.span // 4, seed=0)
    assert 0 < result.success.sum()
    np.testing.assert_array_equal(result.success, predictions(accelerator, result.x) != y)
    with pytest.raises(UserError, match="gives no gradients: attack it with square, hopskipjump"):
        PGD(steps=2)(accelerator, x, y, epsilon_lsb=8, seed=0)


def codes(grid: InputGrid, shape: tuple[int, ...], count: int = 30) -> Any:
    return grid.random(count, shape, np.random.default_rng(0))


def float_model() -> Any:
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    layers = keras.layers.Dense(8, activation="relu", name="fc"), keras.layers.Dense(3, name="out")
    return keras.Sequential([keras.Input((6,), name="features"), *layers])


def keras2_graph(model: Any) -> Any:
    with legacy_keras(), quiet():
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        config = config_from_keras_model(model, granularity="name", backend="Vitis")
        return convert_from_keras_model(model, hls_config=config, backend="Vitis", output_dir=".")


def test_keras_2_without_its_model() -> None:
    check_attackable(Accelerator.from_hls4ml(keras2_graph(float_model()), grid=FEATURES), codes(FEATURES, (6,)))


def test_keras_2_with_its_model_is_judged_by_its_own_bits() -> None:
    model = float_model()
    accelerator, x = Accelerator.from_hls4ml(keras2_graph(model), model, grid=FEATURES), codes(FEATURES, (6,))
    assert isinstance(accelerator, GradientVictim) and accelerator.gradient_model.model is model
    y = predictions(accelerator, x)
    result = PGD(steps=5)(accelerator, x, y, epsilon_lsb=400, seed=0)
    assert 0 < result.success.sum()
    np.testing.assert_array_equal(result.success, predictions(accelerator, result.x) != y)


def test_a_model_without_gradients_here_is_told() -> None:
    with pytest.raises(UserError, match=r"gradients come from a Keras 2 model, and builtins.object is none; leave"):
        Accelerator.from_hls4ml(keras2_graph(float_model()), object())


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_are_simulated_by_csim_and_attacked(kind: str) -> None:
    keras = runtime().keras
    keras.utils.set_random_seed(0)
    layers = getattr(keras.layers, kind)(4, name="memory"), keras.layers.Dense(3, name="out")
    model = keras.Sequential([keras.Input((5, 2), name="features"), *layers])
    assert {found.severity for found in contract(model)} == {"reported"}
    accelerator = Accelerator(model, grid=FEATURES, exactness="reported")
    accelerator.csim = accelerator.compile(optimize=False)
    x = codes(FEATURES, (5, 2))
    assert accelerator.name == "csim"
    gap = np.abs(accelerator.logits(x) - model.predict(FEATURES.to_values(x), verbose=0))
    assert 0 < gap.max() < 0.1  # tables and rounding; a wrong layer would be off by the size of the outputs
    result = PGD(steps=3)(accelerator, x, predictions(accelerator, x), epsilon_lsb=400, seed=0)
    np.testing.assert_array_equal(result.success, predictions(accelerator, result.x) != predictions(accelerator, x))


def test_qonnx(tmp_path: Path) -> None:
    pytest.importorskip("qonnx", reason='needs qonnx: pip install "robust-hls[onnx]"')
    write_convolution(tmp_path / "own.onnx")
    graph = convert_onnx(tmp_path / "own.onnx", HardwareConfig(), IMAGE_GRID.format)
    check_attackable(Accelerator.from_hls4ml(graph), codes(IMAGE_GRID, (4, 4, 1)))


def test_pytorch() -> None:
    torch = pytest.importorskip("torch", reason='needs PyTorch: pip install "robust-hls[torch]"')
    from hls4ml.converters import convert_from_pytorch_model
    from hls4ml.utils import config_from_pytorch_model

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with quiet():
        config = config_from_pytorch_model(model, (6,), granularity="name", backend="Vitis")
        graph = convert_from_pytorch_model(model, hls_config=config, backend="Vitis", output_dir=".")
    check_attackable(Accelerator.from_hls4ml(graph, grid=FEATURES), codes(FEATURES, (6,)))


def test_pytorch_convolution_with_batch_normalization() -> None:
    """hls4ml folds it right, and gives pictures with their channels last: `compare` says so."""
    torch = pytest.importorskip("torch", reason='needs PyTorch: pip install "robust-hls[torch]"')
    from hls4ml.converters import convert_from_pytorch_model
    from hls4ml.utils import config_from_pytorch_model

    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), norm, torch.nn.ReLU()).eval()
    x = np.round(np.random.default_rng(0).normal(size=(20, 2, 6, 6)) * 64) / 64
    with quiet(), torch.no_grad():
        config = config_from_pytorch_model(
            model, (2, 6, 6), granularity="name", backend="Vitis", default_precision="fixed<32,12>"
        )
        graph = convert_from_pytorch_model(model, hls_config=config, backend="Vitis", output_dir=".")
        outputs = model(torch.tensor(x, dtype=torch.float32)).numpy()
    accelerator = Accelerator.from_hls4ml(graph, grid=FEATURES)
    found = accelerator.compare(x, outputs)
    assert found.hint == "with the channels of the outputs moved to the end"
    assert accelerator.compare(x, np.moveaxis(outputs, 1, -1)).difference.largest_gap < 1e-3
    assert accelerator.project.files  # the test bench, whose sizes are products here


#: In a process of its own: Keras 3 and Keras 2 each want to be `keras`.
_KERAS3 = """
import numpy as np, keras
from hls4ml.converters import convert_from_keras_model
from test_front_ends import FEATURES, check_attackable, codes
from hls4ml.utils import config_from_keras_model
from hw import Accelerator
from hw.generate.convert import quiet
keras.utils.set_random_seed(0)
{build}
with quiet():
    graph = convert_from_keras_model(model, backend="Vitis", output_dir=".", {options})
accelerator, x = Accelerator.from_hls4ml(graph, grid=FEATURES), codes(FEATURES, model.input_shape[1:])
check_attackable(accelerator, x)
{check}
"""
_PLAIN = """
layers = keras.layers.Dense(8, activation="relu", name="fc"), keras.layers.Dense(3, name="out")
model = keras.Sequential([keras.Input((6,)), *layers])
config = config_from_keras_model(model, granularity="name", backend="Vitis")
"""
_HGQ2 = """
from hgq.config import QuantizerConfigScope
from hgq.layers import QConv2D, QDense
weights = QuantizerConfigScope(q_type="kbi", place="weight", overflow_mode="SAT_SYM", round_mode="RND")
data = QuantizerConfigScope(q_type="kif", place="datalane", overflow_mode="SAT", round_mode="RND", i0=3, f0=6)
with weights, data:
    layers = QConv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten(), QDense(3)
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
"""
#: HGQ2 promises hls4ml's bits.
_EXACT = "np.testing.assert_array_equal(accelerator.logits(x), model.predict(FEATURES.to_values(x), verbose=0))"


def run_apart(build: str, options: str, check: str = "") -> None:
    here = Path(__file__).resolve()
    paths = [here.parents[2], here.parents[1], here.parent, *map(Path, filter(None, sys.path))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    text = _KERAS3.format(build=build, options=options, check=check)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_keras_3() -> None:
    run_apart(_PLAIN, "hls_config=config")


def test_hgq2() -> None:
    if importlib.util.find_spec("hgq") is None:  # not imported here: it brings Keras 3
        pytest.skip('needs HGQ2: pip install "robust-hls[hgq]"')
    run_apart(_HGQ2, "", _EXACT)
