"""bitsim: the bits of hls4ml's C simulation, at the speed of the machine's integer units."""

from hw.simulate.bitsim.simulator import BitSim, LayerOverflow

__all__ = ["BitSim", "LayerOverflow"]
