"""hls4ml's graph of any model it takes, and its C simulation: what the contract's promises are held against."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hw.generate.contract import contract, conversion_settings, set_activation_types, teach_bit_exact
from hw.generate.hardware import HardwareConfig
from hw.generate.project import HlsProject, legacy_keras
from hw.generate.reuse import plan_layers
from hw.simulate.bitsim import BitSim
from hw.simulate.csim import Csim
from qmodels.victims import Images

NAME = "contracted"
IoType = Literal["io_parallel", "io_stream"]


@dataclass(frozen=True)
class Outputs:
    """Of one model and its accelerator on the same inputs, (N, outputs)."""

    keras: NDArray[Any]
    csim: NDArray[Any]
    bitsim: NDArray[Any]
    graph: Any


def hls4ml_graph(model: Any, folder: Path, io_type: IoType = "io_parallel", backend: str = "Vitis") -> Any:
    """A model as its contract says it must be converted."""
    with legacy_keras(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # hls4ml says that a softmax or a float scale is not exact: that is the point
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model

        settings = conversion_settings(contract(model, backend))
        teach_bit_exact()
        config = config_from_keras_model(model, granularity=settings.granularity, backend=backend)
        set_activation_types(config, model)
        for name, (strategy, reuse) in plan_layers(model, HardwareConfig(io_type=io_type)).items():
            config["LayerName"][name] |= {"Strategy": strategy, "ReuseFactor": reuse}
        return convert_from_keras_model(
            model,
            hls_config=config,
            backend=backend,
            io_type=io_type,
            project_name=NAME,
            output_dir=str(folder),
            bit_exact=settings.bit_exact,
        )


def outputs_of(model: Any, folder: Path, x: Images, io_type: IoType = "io_parallel") -> Outputs:
    """Keras, C simulation and bitsim of one model."""
    graph = hls4ml_graph(model, folder, io_type)
    graph.write()
    stamp = str(graph.config.get_config_value("Stamp")).encode()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = {path: text.replace(stamp, b"csim").replace(str(folder).encode(), b".") for path, text in files.items()}
    count = int(np.prod(model.output_shape[1:]))
    csim = Csim(HlsProject(NAME, files), count, reentrant=False, optimize=False)
    expected = np.asarray(model.predict(x, verbose=0)).reshape(len(x), -1)
    bits = np.asarray(BitSim.from_graph(graph).predict(np.asarray(x, np.float32))).reshape(len(x), -1)
    return Outputs(expected, csim.logits(x), bits, graph)


def signed_inputs(count: int, shape: tuple[int, ...], seed: int = 0) -> Images:
    """Numbers of fixed<10,4>: random ones, then as many at its ends, then all zero."""
    rng = np.random.default_rng(seed)
    random = np.clip(np.rint(rng.normal(size=(count, *shape)) * 96), -512, 511)
    ends = rng.choice([-512, 511], (count, *shape))
    return (np.concatenate([random, ends, np.zeros((1, *shape))]) / 64).astype(np.float32)


def spread(model: Any, seed: int = 3) -> Any:
    """Random weights of a sensible size, in place; positive ones for scales and variances."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        new = []
        for variable, old in zip(layer.weights, layer.get_weights(), strict=True):
            if old.dtype != np.float32:
                new.append(old)  # a counter of steps
            elif old.ndim > 1:
                new.append(rng.normal(size=old.shape) * 1.4 / np.sqrt(np.prod(old.shape[:-1])))
            elif "variance" in variable.name or "gamma" in variable.name:
                new.append(np.abs(rng.normal(size=old.shape)) * 0.3 + 0.5)
            else:
                new.append(rng.normal(size=old.shape) * 0.2)
        layer.set_weights(new)
    return model
