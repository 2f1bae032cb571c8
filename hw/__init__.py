"""The hardware side: hls4ml projects, bit-accurate simulation, cost, and the design flow.

Imports `qmodels`; starts no TensorFlow until a function needs it.
"""

from typing import TYPE_CHECKING

from qmodels.lazy import lazy_names

if TYPE_CHECKING:
    from hw.accelerator import Accelerator
    from hw.cost import Cost
    from hw.generate.contract import repair_model
    from hw.generate.hardware import HardwareConfig
    from hw.generate.project import HlsProject
    from hw.simulate.bitsim import BitSim, LayerOverflow
    from hw.simulate.csim import Csim
    from hw.simulate.explain import FirstDifference

__all__ = [
    "Accelerator",
    "BitSim",
    "Cost",
    "Csim",
    "FirstDifference",
    "HardwareConfig",
    "HlsProject",
    "LayerOverflow",
    "repair_model",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Accelerator": "hw.accelerator",
        "BitSim": "hw.simulate.bitsim",
        "Cost": "hw.cost",
        "Csim": "hw.simulate.csim",
        "FirstDifference": "hw.simulate.explain",
        "HardwareConfig": "hw.generate.hardware",
        "HlsProject": "hw.generate.project",
        "LayerOverflow": "hw.simulate.bitsim",
        "repair_model": "hw.generate.contract",
    },
)
