"""From hls4ml's graph to the network that bitsim computes."""

from hw.simulate.bitsim.lower.network import lower

__all__ = ["lower"]
