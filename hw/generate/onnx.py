"""QONNX files: hls4ml converts them without a Keras model, so there are no gradients. Needs `robust-hls[onnx]`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hw.generate.convert import project_arguments, quiet
from hw.generate.hardware import HardwareConfig
from hw.generate.onnx_checks import read_onnx
from qmodels.errors import ToolMissing, UserError
from qmodels.formats import FixedPoint
from qmodels.runtime import runtime

#: The name of your file in a run folder.
ONNX_FILE = "model.onnx"


def is_onnx(path: Path | None) -> bool:
    """Whether a model file is ONNX, by its suffix: the format has no mark of its own."""
    return path is not None and path.suffix.lower() == ".onnx"


def convert_onnx(path: Path, config: HardwareConfig, input_format: FixedPoint) -> Any:
    """hls4ml's graph of a QONNX model. Inputs of images are channels last, as everywhere here.

    Args:
        path: a file as Brevitas and qonnx export it: quantizers are `Quant` nodes.
        config: backend, part, clock, io type, reuse factor.
        input_format: of the inputs.

    Raises:
        ToolMissing: qonnx is not installed.
        UserError: this is no ONNX model, or hls4ml cannot convert it.
    """
    model = _cleaned(path)
    runtime()  # hls4ml loads QKeras, which finds Keras 3 unless we came first
    with quiet():
        from hls4ml.converters import convert_from_onnx_model
        from hls4ml.utils import config_from_onnx_model

        try:
            hls_config = config_from_onnx_model(model, granularity="name", backend=config.backend)
            hls_config["Model"]["ReuseFactor"] = 1 if config.reuse_factor == "auto" else config.reuse_factor
            for name in (tensor.name for tensor in model.graph.input):
                entry = hls_config["LayerName"].setdefault(name, {})
                entry["Precision"] = {"result": str(input_format)}
            return convert_from_onnx_model(model, hls_config=hls_config, **project_arguments(config))
        except OSError:
            raise
        except Exception as error:  # hls4ml raises bare Exception for layers it does not know
            raise UserError(
                f"{path}: hls4ml cannot convert it ({type(error).__name__}: {str(error)[:300]}); see "
                "https://fastmachinelearning.org/hls4ml for the ONNX layers it supports"
            ) from error


def _cleaned(path: Path) -> Any:
    """The model as hls4ml wants it: constants folded, channels last, no Gemm."""
    if find_spec("qonnx") is None:
        raise ToolMissing(f'{path}: reading ONNX needs qonnx: pip install "robust-hls[onnx]"')
    with quiet():
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
        from qonnx.transformation.gemm_to_matmul import GemmToMatMul
        from qonnx.util.cleanup import cleanup_model

        try:
            model = cleanup_model(ModelWrapper(read_onnx(path)))
            if len(model.get_tensor_shape(model.graph.input[0].name)) > 2:
                model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
            return cleanup_model(model.transform(GemmToMatMul()))
        except (OSError, UserError):
            raise
        except Exception as error:  # protobuf and qonnx raise almost anything
            told = " ".join(str(error).split())[:300]
            raise UserError(f"{path}: not a readable ONNX model ({type(error).__name__}: {told})") from None
